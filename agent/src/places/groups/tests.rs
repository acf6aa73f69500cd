//! What a group must hold to.

use std::sync::Arc;

use agent_common::image::PlaceKind;
use jiff::civil::{Date, date};

use super::{GroupError, GroupSpec, Groups, Jurisdiction};
use crate::places::country::CountryCode;
use crate::places::place::PlaceInfo;

const TODAY: Date = date(2026, 11, 20);

fn groups() -> Groups {
    Groups::builtin().unwrap()
}

fn place(kind: PlaceKind, country: &str) -> PlaceInfo {
    PlaceInfo {
        kind,
        country: CountryCode::parse(country),
        registered: None,
        provider: None,
        region: None,
        source: 0,
        resolver: false,
        cidr_sets: Box::default(),
    }
}

fn country(code: &str) -> PlaceInfo {
    assert!(CountryCode::parse(code).is_some(), "{code}");
    place(PlaceKind::Country, code)
}

fn names(groups: &Groups, place: &PlaceInfo, day: Date) -> String {
    groups.jurisdictions_of(place, day).join(" ")
}

fn members(group: &str) -> String {
    let groups = groups();
    let group = groups.resolve(group).unwrap();
    let inside = CountryCode::all().filter(|code| groups.matches(&group, &country(code.as_str()), TODAY));
    inside.map(|code| code.to_string()).collect::<Vec<_>>().join(" ")
}

fn spec(name: &str, of: &[&str]) -> GroupSpec {
    GroupSpec {
        name: name.to_owned(),
        members: of.iter().map(|member| (*member).to_owned()).collect(),
        reference: "test".to_owned(),
        ..GroupSpec::default()
    }
}

#[test]
fn the_built_in_groups_have_exactly_the_members_of_the_design() {
    let eu = "AT AX BE BG CY CZ DE DK EE ES FI FR GF GP GR HR HU IE IT LT LU LV MF MQ MT NL PL PT RE RO SE SI SK YT";
    assert_eq!(members("EU"), eu);
    let mut eea: Vec<&str> = eu.split(' ').chain(["IS", "LI", "NO"]).collect();
    eea.sort_unstable();
    assert_eq!(members("EEA"), eea.join(" "));
    assert_eq!(members("EFTA"), "CH IS LI NO");
    assert_eq!(members("GDPR-ADEQUATE"), "AD AR BR CH FO GB GG IL IM JE NZ UY");
    assert_eq!(members("GDPR-ADEQUATE-PARTIAL"), "CA JP KR US");
    assert_eq!(groups().names().count(), 5);
}

#[test]
fn every_built_in_entry_says_what_it_rests_on() {
    let groups = groups();
    for (group, entry) in groups.entries() {
        assert!(entry.reference.len() > 10, "{group}: {entry:?}");
    }
}

#[test]
fn a_place_lies_in_its_country_and_in_all_groups_of_it() {
    assert_eq!(names(&groups(), &country("DE"), TODAY), "DE EEA EU");
    assert_eq!(names(&groups(), &country("NO"), TODAY), "EEA EFTA NO");
    assert_eq!(names(&groups(), &country("US"), TODAY), "GDPR-ADEQUATE-PARTIAL US");
    assert_eq!(names(&groups(), &country("GL"), TODAY), "GL");
}

#[test]
fn an_anycast_unknown_or_special_place_lies_in_no_country_whatever_the_database_says_of_it() {
    for kind in PlaceKind::ALL.into_iter().filter(|kind| *kind != PlaceKind::Country) {
        let found = names(&groups(), &place(kind, "DE"), TODAY);
        assert!(!found.contains("EU") && !found.contains("DE"), "{found}");
        assert_eq!(groups().resolve(&found), Some(Jurisdiction::Special(kind)));
    }
}

#[test]
fn an_entry_matches_through_its_last_day_and_not_after() {
    let gb = country("GB");
    assert_eq!(names(&groups(), &gb, date(2031, 12, 27)), "GB GDPR-ADEQUATE");
    assert_eq!(names(&groups(), &gb, date(2031, 12, 28)), "GB");
    assert_eq!(names(&groups(), &country("BR"), date(2026, 1, 25)), "BR");
    assert_eq!(names(&groups(), &country("BR"), date(2026, 1, 26)), "BR GDPR-ADEQUATE");
}

#[test]
fn an_end_is_announced_ahead_and_the_next_change_is_known() {
    let groups = groups();
    assert_eq!(groups.expiring(date(2031, 11, 26), 30), []);
    let soon = groups.expiring(date(2031, 11, 27), 30);
    assert_eq!(soon.len(), 1);
    assert_eq!((&*soon[0].group, &*soon[0].member), ("GDPR-ADEQUATE", "GB"));
    assert_eq!(groups.expiring(date(2031, 12, 28), 30), []);
    assert_eq!(groups.next_change(TODAY), Some(date(2031, 12, 28)));
    assert_eq!(groups.next_change(date(2031, 12, 28)), None);
}

#[test]
fn groups_of_a_batch_may_name_each_other_in_any_order() {
    let mut groups = groups();
    groups.add_all(&[spec("outer", &["inner", "JP"]), spec("inner", &["EFTA", "CLUSTER"])]).unwrap();
    assert_eq!(names(&groups, &country("CH"), TODAY), "CH EFTA GDPR-ADEQUATE inner outer");
    assert_eq!(names(&groups, &place(PlaceKind::Cluster, ""), TODAY), "CLUSTER inner outer");
    let japan = Jurisdiction::Group(Arc::from("outer"));
    assert!(groups.matches(&japan, &country("JP"), TODAY));
    assert_eq!(groups.resolve("outer"), Some(japan));
}

#[test]
fn a_refused_batch_leaves_nothing_behind() {
    let mut groups = groups();
    let (at, error) = groups.add_all(&[spec("fine", &["DE"]), spec("bad", &["UK"])]).unwrap_err();
    assert_eq!(at, 1);
    assert!(error.to_string().contains("did you mean GB?"), "{error}");
    assert_eq!(groups.resolve("fine"), None);
}

#[test]
fn a_cycle_is_refused_with_its_way() {
    let (at, error) = groups()
        .add_all(&[spec("one", &["DE", "two"]), spec("two", &["six"]), spec("six", &["one"])])
        .unwrap_err();
    assert_eq!(at, 0);
    assert!(error.to_string().contains("one → two → six → one"), "{error}");
    assert!(matches!(groups().add(&spec("self", &["self"])), Err(GroupError::Cycle { .. })));
}

#[test]
fn diamonds_are_no_cycles() {
    groups()
        .add_all(&[
            spec("top", &["left", "right"]),
            spec("left", &["low"]),
            spec("right", &["low"]),
            spec("low", &["DE"]),
        ])
        .unwrap();
}

#[test]
fn names_that_are_taken_or_could_be_misread_are_refused() {
    for taken in ["DE", "de", "EU", "eu", "Private", "gdpr-adequate"] {
        assert!(matches!(groups().add(&spec(taken, &["FR"])), Err(GroupError::Taken { .. })), "{taken}");
    }
    for bad in ["", "ab", "-abc", "abc-", "a b", "a,b", "ä-land"] {
        assert!(matches!(groups().add(&spec(bad, &["FR"])), Err(GroupError::Name { .. })), "{bad}");
    }
    let twice = groups().add_all(&[spec("mine", &["FR"]), spec("Mine", &["DE"])]);
    assert!(matches!(twice, Err((1, GroupError::Taken { .. }))));
}

#[test]
fn a_group_of_nothing_or_that_ends_before_it_begins_is_refused() {
    assert!(matches!(groups().add(&spec("none", &[])), Err(GroupError::Empty { .. })));
    let mut turned = spec("turned", &["DE"]);
    (turned.valid_from, turned.valid_until) = (Some(date(2027, 1, 2)), Some(date(2027, 1, 1)));
    assert!(matches!(groups().add(&turned), Err(GroupError::Days { .. })));
}

#[test]
fn slips_are_mended_and_guesses_are_not_made() {
    let groups = groups();
    for (slip, meant) in [
        ("UK", "GB"),
        ("EL", "GR"),
        ("eea", "EEA"),
        ("de", "DE"),
        ("PRIVAT", "PRIVATE"),
        ("GDPR-ADEQATE", "GDPR-ADEQUATE"),
        ("LINKLOCAL", "LINK-LOCAL"),
        ("anycast", "ANYCAST"),
        ("EFTAA", "EFTA"),
    ] {
        assert_eq!(groups.suggest(slip).as_deref(), Some(meant), "{slip}");
    }
    for hopeless in ["", "QQ", "ZZ", "NOWHERE-AT-ALL"] {
        assert_eq!(groups.suggest(hopeless), None, "{hopeless}");
    }
}
