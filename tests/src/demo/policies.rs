//! The policies of `docs/examples`, as the demo uses them: word for word, but for a mode and two dates.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

const CRM: &str = include_str!("../../../docs/examples/crm-stays-in-the-eea.yaml");
const LLM: &str = include_str!("../../../docs/examples/llm-cluster-only.yaml");
const EXCEPTION: &str = include_str!("../../../docs/examples/crm-exception.yaml");
const AWS: &str = include_str!("../../../docs/examples/provider-ranges/aws-excerpt.json");

/// How the fence around the workload "llm" acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LlmMode {
    Audit,
    Enforce,
}

/// Both fences.
pub(super) fn fences(llm: LlmMode) -> Result<String> {
    let llm = match llm {
        LlmMode::Audit => LLM.to_owned(),
        LlmMode::Enforce => replace_line(LLM, "mode:", "mode: Enforce")?,
    };
    Ok(format!("{CRM}---\n{llm}"))
}

/// Both fences, and the exception of the example for the next `life`, rounded up to a whole second. Returns its end.
pub(super) fn with_exception(life: Duration) -> Result<(String, Timestamp)> {
    let now = Timestamp::now();
    let end = Timestamp::from_second((now + life).as_second() + 1)?;
    let begin = Timestamp::from_second(now.as_second() - 60)?;
    let exception = replace_line(EXCEPTION, "notBefore:", &format!("notBefore: {begin}"))?;
    let exception = replace_line(&exception, "expiresAt:", &format!("expiresAt: {end}"))?;
    Ok((format!("{}---\n{exception}", fences(LlmMode::Enforce)?), end))
}

/// The excerpt of Amazon's list, and the same without `prefix`.
pub(super) fn provider_ranges(prefix: &str) -> Result<(String, String)> {
    let mut list: Value = serde_json::from_str(AWS).context("the excerpt of ip-ranges.json")?;
    let prefixes = list.get_mut("prefixes").and_then(Value::as_array_mut).context("no prefixes")?;
    let before = prefixes.len();
    prefixes.retain(|one| one.get("ip_prefix").and_then(Value::as_str) != Some(prefix));
    ensure!(prefixes.len() + 1 == before, "{prefix} is not in the excerpt of ip-ranges.json");
    Ok((AWS.to_owned(), list.to_string()))
}

/// Replaces the one line that begins with `key`, and keeps its indentation.
fn replace_line(text: &str, key: &str, new: &str) -> Result<String> {
    let mut found = 0;
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let bare = line.trim_start();
            if !bare.starts_with(key) {
                return line.to_owned();
            }
            found += 1;
            format!("{}{new}", &line[..line.len() - bare.len()])
        })
        .collect();
    ensure!(found == 1, "{found} lines begin with {key:?} in an example, expected one");
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CRM, LlmMode, fences, provider_ranges, with_exception};

    const README: &str = include_str!("../../../README.md");

    #[test]
    fn the_examples_have_what_the_demo_changes() {
        assert!(fences(LlmMode::Audit).unwrap().contains("mode: Audit"));
        let enforced = fences(LlmMode::Enforce).unwrap();
        assert!(!enforced.contains("mode: Audit") && enforced.matches("mode: Enforce").count() == 2);
        let (text, end) = with_exception(Duration::from_secs(5)).unwrap();
        assert!(text.contains(&format!("  expiresAt: {end}")), "{text}");
    }

    #[test]
    fn one_prefix_is_taken_out_of_the_excerpt() {
        let (with, without) = provider_ranges("52.93.127.27/32").unwrap();
        assert!(with.contains("52.93.127.27/32") && !without.contains("52.93.127.27/32"));
        assert!(without.contains("35.180.0.0/16"));
        assert!(provider_ranges("192.0.2.0/24").is_err());
    }
    #[test]
    fn the_readme_explains_the_example_itself() {
        let bare = |text: &str| -> Vec<String> {
            let lines =
                text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end().to_owned());
            lines.filter(|line| !line.is_empty()).collect()
        };
        let shown = README.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
        assert_eq!(bare(shown.expect("a policy in the README")), bare(CRM));
    }
}
