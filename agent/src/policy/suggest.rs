//! "Did you mean": the candidate that a misspelt word was probably meant to be.

/// The nearest candidate: the same word in other case, else at most one slip in three letters away.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let limit = (lower.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(slips, _)| *slips <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean X?`, or what else to do.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    closest(word, candidates).map_or_else(otherwise, |meant| format!("did you mean {meant}?"))
}

/// Letters inserted, left out, replaced or swapped with the next (optimal string alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn one_slip_in_three_letters_is_forgiven() {
        let fields = ["mode", "subjects", "jurisdictions", "default"];
        assert_eq!(closest("jurisdiction", fields), Some("jurisdictions"));
        assert_eq!(closest("MODE", fields), Some("mode"));
        assert_eq!(closest("defualt", fields), Some("default"));
        assert_eq!(closest("colour", fields), None);
    }
}
