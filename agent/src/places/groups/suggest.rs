//! "Did you mean": what was probably meant by a name that is none.

use agent_common::image::PlaceKind;

use super::Groups;
use crate::places::country::CountryCode;
use crate::places::place::special_name;

impl Groups {
    /// The name that was probably meant: what people write for countries (`UK`), another case (`eea`), or a slip of
    /// one letter in four.
    #[must_use]
    pub fn suggest(&self, name: &str) -> Option<String> {
        if let Some(known) = self.in_either_case(name) {
            return Some(known);
        }
        if let Some(code) = CountryCode::meant_by(name) {
            return Some(code.to_string());
        }
        // Two letters are one slip away from dozens of countries: any guess would be a wrong one.
        if name.chars().count() < 3 {
            return None;
        }
        let upper = name.to_uppercase();
        let allowed = upper.chars().count().div_ceil(4);
        let distance = |known: &str| edit_distance(&upper, &known.to_uppercase());
        self.long_names().filter(|known| distance(known) <= allowed).min_by_key(|known| distance(known))
    }

    /// A known name that differs in case only.
    pub(super) fn in_either_case(&self, name: &str) -> Option<String> {
        let upper = name.to_ascii_uppercase();
        if let Some(code) = CountryCode::parse(&upper) {
            return Some(code.to_string());
        }
        self.long_names().find(|known| known.eq_ignore_ascii_case(name))
    }

    fn long_names(&self) -> impl Iterator<Item = String> {
        let specials = PlaceKind::ALL.into_iter().filter_map(special_name).map(str::to_owned);
        specials.chain(self.groups.keys().map(|name| name.to_string()))
    }
}

/// How many letters must be put in, left out, exchanged or swapped with their neighbour to get from one word to the
/// other (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let exchanged = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = exchanged.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::edit_distance;

    #[test]
    fn distance_counts_each_kind_of_slip_once() {
        for (a, b, n) in [
            ("EEA", "EEA", 0),
            ("CLUSTR", "CLUSTER", 1),
            ("PRIVTAE", "PRIVATE", 1),
            ("ANYCAXT", "ANYCAST", 1),
            ("", "EU", 2),
        ] {
            assert_eq!(edit_distance(a, b), n, "{a} {b}");
        }
    }
}
