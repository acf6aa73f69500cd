//! What came of a pass: for the log, the stream and the status.

use std::fmt;
use std::time::Duration;

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The image that judged.
    pub generation: u32,
    /// Flows of fenced workloads that were looked at.
    pub checked: u64,
    /// Namespaces that were entered.
    pub namespaces: u64,
    /// Flows that were ended.
    pub ended: u64,
    /// Blocked flows that the kernel refused to end.
    pub refused: u64,
    /// The first refusal.
    pub refusal: Option<String>,
    /// Blocked flows that stay, silent, because they may have been accepted and the fence allows that.
    pub left: u64,
    /// Flows of a cgroup that has no name any more.
    pub nameless: u64,
    /// Threads whose namespace this process may not see.
    pub hidden: u64,
    /// Namespaces that could not be looked at, and the first reason.
    pub unseen: Option<(u64, String)>,
    /// The kernel has no SOCK_DESTROY.
    pub unsupported: bool,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ended {} of {} open flows of fenced workloads in {} network namespaces in {} ms; {} could not be ended",
            self.ended,
            self.checked,
            self.namespaces,
            self.took.as_millis(),
            self.refused,
        )?;
        if let Some(why) = &self.refusal {
            write!(f, " ({why})")?;
        }
        if self.left > 0 {
            write!(f, "; {} that may be accepted ones were left to egress", self.left)?;
        }
        if self.nameless > 0 {
            write!(f, "; {} of unknown cgroups were left to egress", self.nameless)?;
        }
        for problem in self.problems() {
            write!(f, "; {problem}")?;
        }
        Ok(())
    }
}

impl Report {
    /// What keeps flows from being ended on this node, one sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.unsupported {
            problems.push(
                "this kernel cannot end sockets (CONFIG_INET_DIAG_DESTROY): blocked flows go silent instead"
                    .to_owned(),
            );
        }
        if self.hidden > 0 {
            problems.push(format!(
                "the network namespaces of {} threads of fenced workloads can't be seen: --netns-entry needs CAP_SYS_PTRACE and the host's pid namespace",
                self.hidden
            ));
        }
        if let Some((count, why)) = &self.unseen {
            problems.push(format!("{count} network namespaces could not be looked at: {why}"));
        }
        problems
    }

    pub(super) fn unseen(&mut self, why: String) {
        match &mut self.unseen {
            Some((count, _)) => *count += 1,
            None => self.unseen = Some((1, why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Report;

    #[test]
    fn a_report_says_what_was_done_and_what_could_not_be() {
        let took = Duration::from_millis(9);
        let fine = Report { checked: 340, ended: 12, namespaces: 5, took, ..Report::default() };
        let text = "ended 12 of 340 open flows of fenced workloads in 5 network namespaces in 9 ms; 0 could not be ended";
        assert_eq!(fine.to_string(), text);
        assert!(fine.problems().is_empty());

        let mut bad =
            Report { refused: 2, refusal: Some("why".into()), left: 3, nameless: 4, hidden: 5, ..fine };
        bad.unsupported = true;
        bad.unseen("net:[1]: gone".into());
        bad.unseen("net:[2]: gone too".into());
        let text = bad.to_string();
        for part in ["2 could not be ended (why)", "3 that may", "4 of unknown", "CONFIG_INET_DIAG_DESTROY"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(
            text.contains("5 threads")
                && text.contains("2 network namespaces could not be looked at: net:[1]")
        );
        assert_eq!(bad.problems().len(), 3);
    }
}
