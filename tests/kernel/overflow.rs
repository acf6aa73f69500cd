//! Nobody reads what the kernel programs write: the fence stands, and every event is delivered or announced, to the unit.

mod books;
mod flood;
mod killed;
mod stopped;

use libtest_mimic::Trial;

use crate::suite::{Place, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            Place::Host,
            "overflow::a_reader_that_stands_still_under_a_flood_opens_nothing_and_announces_every_loss",
            stopped::run,
        ),
        trial(
            Place::Host,
            "overflow::over_an_agents_death_every_event_is_delivered_or_announced",
            killed::run,
        ),
    ]
}
