//! The built-in tables: fields between commas, without quotes; lines that are empty or start with `#` say nothing.

use super::error::PlacesError;

/// The lines that say something, by number from 1, cut into `N` trimmed fields. The last runs to the line's end.
pub(super) fn lines<const N: usize>(
    text: &'static str,
    name: &'static str,
) -> Result<Vec<(usize, [&'static str; N])>, PlacesError> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let said = numbered.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    said.map(|(number, line)| {
        let mut fields = line.splitn(N, ',').map(str::trim);
        let cut = std::array::from_fn(|_| fields.next());
        match cut.iter().all(Option::is_some) {
            true => Ok((number, cut.map(Option::unwrap_or_default))),
            false => {
                Err(PlacesError::BuiltIn { name, what: format!("line {number}: {N} fields are needed") })
            }
        }
    })
    .collect()
}

/// The date that a table gives itself in a line `# date: YYYY-MM-DD`.
pub(super) fn date(text: &str, name: &'static str) -> Result<jiff::civil::Date, PlacesError> {
    let line = text.lines().find_map(|line| line.strip_prefix("# date: "));
    line.and_then(|date| date.trim().parse().ok())
        .ok_or(PlacesError::BuiltIn { name, what: "it has no line `# date: YYYY-MM-DD`".to_owned() })
}
