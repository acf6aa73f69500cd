use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use tokio::time::timeout;

use super::args::WatchArgs;
use super::{compact, watch};
use crate::cli::client::ClientError;
use crate::cli::output::{Exit, Style};
use crate::events::fixtures::{allowed, event, stamped, violation};
use crate::events::model::flow::{FlowEvent, Process};
use crate::grpc::fake_agent::{DEADLINE, FakeAgent, nowhere};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    watch: WatchArgs,
}

fn args(socket: &std::path::Path, more: &[&str]) -> WatchArgs {
    let socket = socket.to_str().expect("UTF-8");
    Cli::try_parse_from([&["watch", "--socket", socket], more].concat()).expect("right arguments").watch
}

/// Watches with these arguments while `publish` runs; gives what was printed.
async fn printed(
    agent: &FakeAgent,
    more: &[&str],
    publish: impl FnOnce(&FakeAgent),
) -> Result<String, ClientError> {
    let args = args(&agent.socket(), more);
    let mut out = Vec::new();
    let watching = watch(&args, Style::PLAIN, &mut out);
    let publishing = async {
        agent.counts_become(|counts| counts.subscribers == 1).await;
        publish(agent);
    };
    let (exit, ()) = tokio::join!(timeout(DEADLINE, watching), publishing);
    assert_eq!(exit.expect("ends in time")?, Exit::Fine);
    Ok(String::from_utf8(out).expect("UTF-8"))
}

#[tokio::test]
async fn json_is_one_event_a_line_and_count_ends_it() {
    let agent = FakeAgent::start();
    let out = printed(&agent, &["-o", "json", "--count", "2"], |agent| {
        agent.hub.publish_all([event(violation()), event(allowed()), event(violation())]);
    });
    let lines: Vec<Value> =
        out.await.expect("fine").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let seen: Vec<_> = lines.iter().map(|line| (line["kind"].as_str(), line["sequence"].as_u64())).collect();
    assert_eq!(
        seen,
        [(Some("heartbeat"), Some(0)), (Some("violation"), Some(1)), (Some("violation"), Some(3))]
    );
    assert_eq!(lines[1]["remote"], "13.110.54.10");
}

#[tokio::test]
async fn options_become_filters() {
    let agent = FakeAgent::start();
    let out = printed(&agent, &["--all", "--verdict", "allow", "--port", "443", "--count", "1"], |agent| {
        agent.hub.publish_all([event(violation()), event(allowed())]);
    });
    let out = out.await.expect("fine");
    assert!(out.contains("Allow") && !out.contains("Block"), "{out}");

    let agent = FakeAgent::start();
    let out = printed(&agent, &["--not-in", "US,DE", "--count", "1"], |agent| {
        let nowhere_known = FlowEvent { place: Arc::default(), ..violation() };
        agent.hub.publish_all([event(violation()), event(nowhere_known)]);
    });
    let out = out.await.expect("fine");
    assert!(out.contains(" ? ") && !out.contains(" US "), "{out}");
}

#[tokio::test]
async fn a_filter_that_the_agent_refuses_is_a_usage_error_with_its_words() {
    let agent = FakeAgent::start();
    let error = watch(&args(&agent.socket(), &["--country", "UK"]), Style::PLAIN, &mut Vec::new()).await;
    let error = error.expect_err("no such country");
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains("did you mean \"GB\"?"), "{error}");
}

#[tokio::test]
async fn a_timeout_before_the_count_is_a_failure() {
    let agent = FakeAgent::start();
    let args = args(&agent.socket(), &["--count", "1", "--timeout", "100ms"]);
    let error = watch(&args, Style::PLAIN, &mut Vec::new()).await.expect_err("nothing came");
    assert_eq!(
        (error.exit(), error.to_string()),
        (Exit::Failed, "0 of 1 events came before the timeout".to_owned())
    );
}

#[tokio::test]
async fn without_an_agent_the_message_says_how_to_start_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let error =
        watch(&args(&nowhere(dir.path()), &[]), Style::PLAIN, &mut Vec::new()).await.expect_err("nobody");
    assert_eq!(error.exit(), Exit::Unreachable);
    assert!(error.to_string().contains("ringfence run --socket"), "{error}");
}

#[tokio::test]
async fn an_agent_that_stops_ends_the_watch_as_unreachable() {
    let agent = FakeAgent::start();
    let args = args(&agent.socket(), &[]);
    let mut out = Vec::new();
    let stop = async {
        agent.counts_become(|counts| counts.subscribers == 1).await;
        agent.stop().await
    };
    let (ended, _dir) = tokio::join!(timeout(DEADLINE, watch(&args, Style::PLAIN, &mut out)), stop);
    let error = ended.expect("ends in time").expect_err("the agent went");
    assert_eq!(error.exit(), Exit::Unreachable, "{error}");
}

/// A pipe whose reader has gone.
struct BrokenPipe;

impl Write for BrokenPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_ends_the_watch_quietly() {
    for format in ["json", "compact"] {
        let agent = FakeAgent::start();
        agent.hub.publish(event(violation()));
        let args = args(&agent.socket(), &["-o", format, "--earliest"]);
        let ended = timeout(DEADLINE, watch(&args, Style::PLAIN, &mut BrokenPipe)).await.expect("in time");
        let error = ended.expect_err("the pipe is broken");
        assert!(error.is_quiet() && error.exit() == Exit::Fine, "{error}");
    }
}

/// What is written is there before the next event comes, not when a buffer is full.
#[tokio::test]
async fn a_line_is_flushed_while_the_stream_is_quiet() {
    #[derive(Clone, Default)]
    struct Flushed(Arc<Mutex<(Vec<u8>, usize)>>);
    impl Write for Flushed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").0.extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            let mut inner = self.0.lock().expect("not poisoned");
            inner.1 = inner.0.len();
            Ok(())
        }
    }
    let agent = FakeAgent::start();
    agent.hub.publish(event(violation()));
    let (mut out, args) = (Flushed::default(), args(&agent.socket(), &["--earliest"]));
    let seen = out.clone();
    let line_is_out = async {
        while seen.0.lock().expect("not poisoned").1 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = watch(&args, Style::PLAIN, &mut out) => panic!("ended: {ended:?}"),
        flushed = timeout(DEADLINE, line_is_out) => flushed.expect("flushed in time"),
    }
}

#[test]
fn the_compact_line_says_who_where_to_and_why() {
    let line = compact::line(&stamped(1, violation()), Style::PLAIN).expect("a line");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "10:00:00.250Z",
            "Block",
            "Verdict",
            "crm",
            "curl[4242]",
            "→",
            "13.110.54.10:443/tcp",
            "US",
            "crm-stays-in-the-eea",
            "(Default)"
        ]
    );
}

#[test]
fn names_chosen_by_a_workload_can_not_drive_the_terminal() {
    let mut flow = violation();
    flow.process = Some(Process { pid: 1, uid: 0, comm: "\x1b]0;x\x07".into() });
    flow.workload = Some("a\nb".into());
    let line = compact::line(&stamped(1, flow), Style::PLAIN).expect("a line");
    assert!(!line.chars().any(char::is_control), "{line:?}");
}

#[test]
fn bad_arguments_are_found_before_the_agent_is_asked() {
    for wrong in
        [["--port", "0"], ["--port", "70000"], ["--count", "0"], ["--timeout", "0s"], ["--verdict", "x"]]
    {
        assert!(Cli::try_parse_from([&["watch"], &wrong[..]].concat()).is_err(), "{wrong:?}");
    }
}
