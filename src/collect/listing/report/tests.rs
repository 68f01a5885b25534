use std::borrow::Cow;

use super::*;

fn report(is_computers: bool) -> Report {
    Report { names: vec!["x".to_owned()], is_computers, span: Duration::from_secs(1) }
}

/// Where a row belongs that says this of its organization; none where it is left out.
fn placed(report: &Report, scope: &Scope, id: &str, name: Option<&'static str>) -> Option<String> {
    let known = |id: &str, name: &str| (OrganizationId::new(id), name.to_owned());
    let names = names([known("n", "North "), known("1", "twice"), known("2", "Twice")]);
    let mut key = RowKey::nobody(OrganizationId::new(id));
    key.organization_name = name.map(Cow::Borrowed);
    place(&names, report, &mut key, scope).then(|| key.organization.as_str().to_owned())
}

#[test]
fn a_row_of_a_tree_belongs_to_whom_it_names_and_one_that_names_nobody_to_the_organization_that_was_asked() {
    let tree = Scope::Tree(OrganizationId::new("own"));
    let of = |id, name| placed(&report(false), &tree, id, name).unwrap();
    assert_eq!(of("a", Some("North")), "a");
    assert_eq!(of("", Some(" NORTH ")), "n");
    assert_eq!(of("", Some("twice")), "", "of two that have one name nobody knows which");
    assert_eq!(of("", Some("elsewhere")), "");
    assert_eq!(of("", None), "own");
    let computer = placed(&report(true), &tree, "", None).unwrap();
    assert_eq!(computer, "", "a computer may be of any organization of the tree");
}

#[test]
fn of_one_organization_alone_rows_of_others_are_left_out() {
    let only = Scope::Organization(OrganizationId::new("own"));
    for report in [report(false), report(true)] {
        let of = |id| placed(&report, &only, id, Some("North"));
        assert_eq!((of("own"), of(""), of("a")), (Some("own".to_owned()), Some("own".to_owned()), None));
    }
}
