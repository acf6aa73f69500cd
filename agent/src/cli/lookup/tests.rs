//! What `lookup` prints, and what it says of input that is none.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;

use super::{Exit, LookupArgs, lookup};
use crate::cli::output::Style;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: LookupArgs,
}

/// Exit, standard output, standard error.
fn run(arguments: &[&str], input: &str) -> (Exit, String, String) {
    let line = Line::parse_from([&["lookup"], arguments].concat());
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let exit = lookup(&line.args, Style::PLAIN, input.as_bytes(), &mut out, &mut errors).unwrap();
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
}

fn json(address: &str) -> Value {
    let (exit, out, _) = run(&["-o", "json", address], "");
    assert_eq!(exit, Exit::Fine);
    assert_eq!(out.lines().count(), 1);
    serde_json::from_str(&out).unwrap()
}

#[test]
fn json_has_the_promised_fields() {
    let answer = json("13.110.54.10");
    assert_eq!(answer["address"], "13.110.54.10");
    assert_eq!(answer["country"], "US");
    assert_eq!(answer["jurisdictions"], serde_json::json!(["GDPR-ADEQUATE-PARTIAL", "US"]));
    assert_eq!(answer["source"], "dbip-country-lite");
    assert_eq!(answer["data_date"], "2026-06-01");
    assert_eq!((&answer["layer"], &answer["kind"]), (&"country".into(), &"COUNTRY".into()));
    for absent in ["provider", "region", "registered", "judged_as"] {
        assert_eq!(answer.get(absent), Some(&Value::Null), "{absent}");
    }
}

#[test]
fn anycast_has_the_databases_country_and_only_anycast_as_jurisdiction() {
    let answer = json("1.1.1.1");
    assert_eq!(answer["country"], "AU");
    assert_eq!(answer["jurisdictions"], serde_json::json!(["ANYCAST"]));
    assert_eq!(answer["source"], "anycast-list");
}

#[test]
fn carried_addresses_are_shown_with_what_they_are_judged_as() {
    let mapped = json("::ffff:13.110.54.10");
    assert_eq!((&mapped["address"], &mapped["judged_as"]), (&"13.110.54.10".into(), &Value::Null));
    assert_eq!(json("64:ff9b::808:808")["judged_as"], serde_json::json!(["8.8.8.8"]));
    let teredo = json("2001:0:4136:e378:8000:63bf:3fff:fdd2");
    assert_eq!(teredo["judged_as"], serde_json::json!(["65.54.227.120", "192.0.2.45"]));
    // The server is in a country, the client is reserved: no jurisdiction holds both.
    assert_eq!((&teredo["country"], &teredo["jurisdictions"]), (&Value::Null, &serde_json::json!([])));
}

#[test]
fn a_bad_address_is_named_and_the_others_are_answered() {
    let (exit, out, errors) =
        run(&["-o", "json", "1.1.1.1", "example.org", "1.2.3.4/24", "[::1]:80", "2.2.2.2"], "");
    assert_eq!(exit, Exit::Failed);
    assert_eq!(out.lines().count(), 2);
    assert!(errors.contains("\"example.org\" is not an IP address: names are not resolved"), "{errors}");
    assert!(errors.contains("\"1.2.3.4/24\" is not an IP address: write 1.2.3.4"), "{errors}");
    assert!(errors.contains("\"[::1]:80\" is not an IP address: write ::1"), "{errors}");
}

#[test]
fn standard_input_is_read_line_by_line_with_line_numbers_in_errors() {
    let (exit, out, errors) = run(&["-o", "json", "-"], "1.1.1.1\r\n\n  2a01:4f8::1 \nnonsense\n8.8.8.8");
    assert_eq!(exit, Exit::Failed);
    assert_eq!(out.lines().count(), 3);
    assert!(errors.contains("standard input, line 4: \"nonsense\" is not an IP address"), "{errors}");
}

#[test]
fn an_endless_line_is_not_kept_in_memory() {
    let (exit, out, _) = run(&["-o", "json", "-"], &format!("{}\n1.1.1.1\n", "x".repeat(10_000)));
    assert_eq!(exit, Exit::Failed);
    assert_eq!(out.lines().count(), 1);
}

#[test]
fn text_is_aligned_and_plain_without_a_terminal() {
    let (_, out, errors) = run(&["13.110.54.10", "2a01:4f8::1", "10.0.0.1"], "");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.iter().all(|line| line.is_ascii() && !line.contains('\x1b')), "{out}");
    assert_eq!(lines[0].find("US"), lines[1].find("DE"), "{out}");
    assert!(lines[1].contains("EEA EU"), "{out}");
    assert!(lines[2].contains("PRIVATE"), "{out}");
    assert!(errors.contains("warning: dbip-country-lite"), "{errors}");
}

#[test]
fn a_provider_file_puts_the_country_database_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ours.csv");
    fs::write(&path, "cidr,country,provider,region\n13.110.54.0/24,DE,salesforce,eu\n").unwrap();
    let (_, out, _) = run(&["-o", "json", "--provider-ranges", path.to_str().unwrap(), "13.110.54.10"], "");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["jurisdictions"], serde_json::json!(["DE", "EEA", "EU"]));
    assert_eq!((&answer["source"], &answer["provider"]), (&"ours.csv".into(), &"salesforce".into()));
}

#[test]
fn a_file_that_is_no_database_is_refused_and_nothing_is_answered() {
    let line = Line::parse_from(["lookup", "--country-db", "Cargo.toml", "1.1.1.1"]);
    assert!(Path::new("Cargo.toml").exists());
    let mut out = Vec::new();
    let error = lookup(&line.args, Style::PLAIN, &b""[..], &mut out, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("country database Cargo.toml"), "{error}");
    assert!(out.is_empty());
}

#[test]
fn hundreds_of_thousands_of_lines_take_seconds_even_unoptimised() {
    let input: String = (0..200_000u32)
        .map(|at| format!("{}\n", std::net::Ipv4Addr::from_bits(at.wrapping_mul(2_654_435_761))))
        .collect();
    let start = Instant::now();
    let (exit, out, _) = run(&["-o", "json", "-"], &input);
    assert_eq!((exit, out.lines().count()), (Exit::Fine, 200_000));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
