//! Country codes: which exist, and what people write instead.

use std::fmt;
use std::str::FromStr;

/// The officially assigned codes of ISO 3166-1 alpha-2, sorted, and XK, which is user-assigned: every country
/// database uses it for Kosovo.
const CODES: &str = "\
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC \
CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD \
GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH \
KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW \
MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC \
SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY \
UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// What people write, and the code they mean: reserved ISO codes and the European Union's own two letters
/// (Interinstitutional Style Guide, 7.1.1: EL for Greece; UK is reserved at the United Kingdom's request).
const MEANT: [(&str, &str); 4] = [("UK", "GB"), ("EL", "GR"), ("SU", "RU"), ("KO", "KR")];

/// A country: an officially assigned ISO 3166-1 alpha-2 code in upper case, or `XK`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode([u8; 2]);

/// Text that is not a [`CountryCode`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is not a country code (ISO 3166-1 alpha-2, upper case){}", mend(.meant))]
pub struct NotACountry {
    /// What was given.
    pub text: String,
    /// What was probably meant.
    pub meant: Option<CountryCode>,
}

fn mend(meant: &Option<CountryCode>) -> String {
    meant.map(|code| format!(": did you mean {code}?")).unwrap_or_default()
}

impl CountryCode {
    /// The code, if it is one. Lower case is refused.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        // Codes lie three bytes apart, in order.
        let codes = CODES.as_bytes();
        let (mut low, mut high) = (0, codes.len().div_ceil(3));
        while low < high {
            let middle = (low + high) / 2;
            let at = [codes[middle * 3], codes[middle * 3 + 1]];
            match at.cmp(&code) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(Self(code)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The code that was probably meant by text that is none: `uk`, `EL`, `de`.
    #[must_use]
    pub fn meant_by(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let meant =
            MEANT.iter().find(|(wrong, _)| *wrong == upper).map_or(upper.as_str(), |(_, right)| right);
        Self::parse(meant)
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("invariant: made from ASCII letters")
    }

    /// All codes, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        CODES.split(' ').filter_map(Self::parse)
    }
}

impl FromStr for CountryCode {
    type Err = NotACountry;

    fn from_str(text: &str) -> Result<Self, NotACountry> {
        Self::parse(text).ok_or_else(|| NotACountry { text: text.to_owned(), meant: Self::meant_by(text) })
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{CODES, CountryCode};

    #[test]
    fn the_table_is_sorted_and_holds_the_250_codes() {
        let codes: Vec<&str> = CODES.split(' ').collect();
        assert_eq!(codes.len(), 250);
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(CountryCode::all().count(), 250);
    }

    #[test]
    fn only_assigned_codes_in_upper_case_are_countries() {
        for good in ["AD", "DE", "XK", "ZW"] {
            assert_eq!(CountryCode::parse(good).map(|c| c.to_string()).as_deref(), Some(good));
        }
        for bad in ["de", "EU", "AP", "ZZ", "A1", "AN", "UK", "EL", "", "D", "DEU", "D ", " A", "É"] {
            assert_eq!(CountryCode::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_people_write_is_mended() {
        let error = "UK".parse::<CountryCode>().unwrap_err().to_string();
        assert!(error.contains("did you mean GB?"), "{error}");
        assert_eq!(CountryCode::meant_by("EL"), CountryCode::parse("GR"));
        assert_eq!(CountryCode::meant_by("de"), CountryCode::parse("DE"));
        assert_eq!(CountryCode::meant_by("EU"), None);
    }
}
