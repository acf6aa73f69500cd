use std::sync::atomic::Ordering;

use clap::Parser;
use serde_json::Value;

use super::{StatusArgs, status};
use crate::cli::client::ClientError;
use crate::cli::output::{Exit, Style};
use crate::events::model::words::State;
use crate::grpc::fake_agent::{FakeAgent, nowhere};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    status: StatusArgs,
}

async fn run(socket: &std::path::Path, more: &[&str]) -> Result<(Exit, String), ClientError> {
    let socket = socket.to_str().expect("UTF-8");
    let args =
        Cli::try_parse_from([&["status", "--socket", socket], more].concat()).expect("right arguments");
    let mut out = Vec::new();
    let exit = status(&args.status, Style::PLAIN, &mut out).await?;
    Ok((exit, String::from_utf8(out).expect("UTF-8")))
}

#[tokio::test]
async fn json_has_the_generation_and_the_state() {
    let agent = FakeAgent::start();
    let (exit, out) = run(&agent.socket(), &["-o", "json"]).await.expect("an answer");
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((exit, out.lines().count()), (Exit::Fine, 1));
    assert_eq!(
        (&json["generation"], &json["state"], &json["node"]),
        (&3.into(), &"Ready".into(), &"node-1".into())
    );
    assert_eq!(json["started"], "2026-11-20T10:00:00.25Z");
    assert_eq!(json["fences"][0]["mode"], "Enforce");
    assert_eq!(
        (&json["interfaces"][0]["guard"], &json["interfaces"][0]["blocked"]),
        (&"tcx".into(), &12.into())
    );
    assert_eq!(json["data_sets"][0]["data_date"], "2026-11-01");
}

#[tokio::test]
async fn text_names_what_is_in_force_and_what_is_wrong() {
    let agent = FakeAgent::start();
    let (_, out) = run(&agent.socket(), &[]).await.expect("an answer");
    for wanted in [
        "state     Ready",
        "note      country data is 130 days old",
        "Enforce crm-stays-in-the-eea",
        "interface tcx      veth1a2b (7) of /crm, blocked 12\n",
        "interface none     of /llm: no own interface: it uses the host's network\n",
    ] {
        assert!(out.contains(wanted), "{wanted:?} is missing:\n{out}");
    }
}

#[tokio::test]
async fn exit_is_fine_only_when_the_policy_is_in_force() {
    let agent = FakeAgent::start();
    for (state, wanted) in [
        (State::Ready, Exit::Fine),
        (State::Degraded, Exit::Fine),
        (State::Starting, Exit::Failed),
        (State::Stopping, Exit::Failed),
    ] {
        *agent.backend.state.lock().expect("not poisoned") = state;
        assert_eq!(run(&agent.socket(), &[]).await.expect("an answer").0, wanted, "{state}");
    }
}

#[tokio::test]
async fn wait_ends_as_soon_as_the_agent_is_ready() {
    let agent = FakeAgent::start();
    *agent.backend.state.lock().expect("not poisoned") = State::Starting;
    let socket = agent.socket();
    let waiting = run(&socket, &["--wait", "20s"]);
    let becoming_ready = async {
        while agent.backend.asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        *agent.backend.state.lock().expect("not poisoned") = State::Ready;
    };
    let (answer, ()) = tokio::join!(waiting, becoming_ready);
    assert_eq!(answer.expect("an answer").0, Exit::Fine);
}

#[tokio::test]
async fn what_listens_but_does_not_speak_is_no_agent_and_does_not_hold_up_the_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let _silent = std::os::unix::net::UnixListener::bind(nowhere(dir.path())).expect("a socket");
    let begun = std::time::Instant::now();
    let error = run(&nowhere(dir.path()), &["--wait", "200ms"]).await.expect_err("nobody speaks");
    assert_eq!(error.exit(), Exit::Unreachable);
    assert!(error.to_string().contains("does not answer as an agent"), "{error}");
    assert!(begun.elapsed() < super::ANSWER_TIMEOUT, "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn wait_ends_at_its_deadline_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let begun = std::time::Instant::now();
    let error = run(&nowhere(dir.path()), &["--wait", "120ms"]).await.expect_err("nobody comes");
    assert_eq!(error.exit(), Exit::Unreachable);
    assert!(begun.elapsed().as_millis() >= 50, "it gave up at once");
    assert!(error.to_string().contains("ringfence run --socket"), "{error}");
}
