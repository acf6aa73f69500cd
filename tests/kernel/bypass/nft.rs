//! nftables rules in a namespace of the test's own.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use agent_tests::netns::Netns;
use anyhow::{Context, Result, ensure};

/// Loads rules. `Some`: there is no nft here.
pub(super) fn load(namespace: &Netns, rules: &str) -> Result<Option<String>> {
    namespace.run(|| {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some("there is no nft command here".into()));
            }
            Err(error) => return Err(error).context("cannot start nft"),
        };
        process.stdin.take().context("nft without standard input")?.write_all(rules.as_bytes())?;
        let output = process.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "nft refused the rules: {said}");
        Ok(None)
    })
}

/// Removes a table, such as `ip mesh`.
pub(super) fn remove(namespace: &Netns, table: &str) -> Result<()> {
    load(namespace, &format!("delete table {table}")).map(drop)
}
