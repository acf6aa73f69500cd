//! How old data is, and when that must be said.

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use super::place::Source;

/// Days after which data is announced as old: networks move between countries all the time.
const OLD_DAYS: i32 = 120;
/// Days into the future that a build date may lie: clocks and time zones differ.
const FUTURE_DAYS: i32 = 2;
/// The format is younger than this; older build times are nonsense.
const EARLIEST: Date = date(2010, 1, 1);

/// The date of a build time in seconds since 1970. Nonsense is `None`.
pub(crate) fn date_of(epoch: u64, today: Date) -> Option<Date> {
    let seconds = i64::try_from(epoch).ok()?;
    let date = Timestamp::from_second(seconds).ok()?.to_zoned(TimeZone::UTC).date();
    (EARLIEST <= date && days_between(today, date) <= FUTURE_DAYS).then_some(date)
}

/// What to say of a source's age.
pub(crate) fn warning(source: &Source, today: Date) -> Option<String> {
    let name = &source.name;
    match source.date {
        None => Some(format!("{name}: it does not say of what date it is")),
        Some(date) => {
            let days = days_between(date, today);
            (days > OLD_DAYS)
                .then(|| format!("{name}: its data is of {date}, {days} days old: get a newer one"))
        }
    }
}

/// From one date to another, negative if the other is earlier.
fn days_between(from: Date, to: Date) -> i32 {
    (to - from).get_days()
}

#[cfg(test)]
mod tests {
    use jiff::civil::{Date, date};

    use super::{date_of, warning};
    use crate::places::place::{Layer, Source};

    const TODAY: Date = date(2026, 11, 20);

    fn source(date: Option<Date>) -> Source {
        Source { name: "file".to_owned(), layer: Layer::Country, date, digest: None }
    }

    #[test]
    fn nonsense_build_times_have_no_date() {
        assert_eq!(date_of(1_780_272_000, TODAY), Some(date(2026, 6, 1)));
        for epoch in [0, 1, 86_400 * 365 * 30, 1_795_500_000, 253_402_300_800, u64::MAX] {
            assert_eq!(date_of(epoch, TODAY), None, "{epoch}");
        }
    }

    #[test]
    fn data_is_announced_as_old_after_120_days() {
        assert_eq!(warning(&source(Some(date(2026, 7, 23))), TODAY), None);
        let old = warning(&source(Some(date(2026, 7, 22))), TODAY).unwrap();
        assert!(old.contains("121 days"), "{old}");
        assert!(warning(&source(None), TODAY).is_some());
    }
}
