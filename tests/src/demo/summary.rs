//! The table at the end, from the event stream alone; and the judge's word on it.
use super::{screen::Screen, stage::Stage};
use crate::events::Watch;
pub(super) fn show(_stage: &Stage, _screen: &Screen, watch: &Watch) -> anyhow::Result<()> {
    let text: Vec<String> = watch.events().iter().map(|e| e.0.to_string()).collect();
    std::fs::write("/tmp/demo_events.jsonl", text.join("\n"))?;
    Ok(())
}
