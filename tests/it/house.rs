//! The house itself: what a module may know of, read off the source, and that the planted faults fit it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up: a module may name those of lower floors, and its own family.
const FLOORS: [&[&str]; 14] = [
    &["epitaph", "model"],
    &["clock", "coverage", "credentials", "durable", "normalise", "reach"],
    &["budget", "record", "simulator"],
    &["portal"],
    &["source"],
    &["format"],
    &["redact", "select"],
    &["sink", "store"],
    // They meet in the store and never know of each other.
    &["collect", "deliver", "order"],
    &["config"],
    &["status"],
    &["control", "fault", "metrics", "schedule", "web"],
    &["app"],
    &["cli"],
];

/// What a module may name on a higher floor, and why.
const EXCEPTIONS: [(&str, &str, &str); 1] =
    [("deliver", "fault", "a switch of the crash tests, which is in no release")];

/// The module to which a file belongs; an interface and the folder of its kinds are one.
fn family(module: &str) -> &str {
    match module {
        "sources" => "source",
        "formats" => "format",
        "sinks" => "sink",
        other => other,
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
            false => {}
        }
    }
}

/// The modules that a text names: `crate::one`, `crate::{one, two::Three}`.
fn named<'a>(text: &'a str) -> BTreeSet<&'a str> {
    let mut named = BTreeSet::new();
    for line in text.split("crate::").skip(1) {
        let list = match line.strip_prefix('{') {
            Some(list) => list.split_once("};").map_or(list, |(list, _)| list),
            None => line.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default(),
        };
        let mut depth = 0;
        let parts = list.split(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        let first = |part: &'a str| part.trim().split("::").next().unwrap_or_default();
        named.extend(parts.map(first).filter(|name| !name.is_empty()));
    }
    named
}

/// A file without its tests and comments.
fn shipped(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_module_names_one_of_a_higher_floor() {
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    let (mut wrong, mut arrows) = (Vec::new(), 0);
    for path in all {
        let inside = path.strip_prefix(&root).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["main", "lib"].contains(&module)
            || inside.iter().any(|part| part == "tests" || part == "tests.rs")
        {
            continue;
        }
        let own = family(module);
        let Some(at) = floor(own) else {
            wrong.push(format!("{module} stands on no floor"));
            continue;
        };
        let code = shipped(&std::fs::read_to_string(&path).unwrap());
        for other in named(&code).into_iter().map(family).filter(|other| *other != own) {
            arrows += 1;
            let allowed = EXCEPTIONS.iter().any(|(from, to, _)| (*from, *to) == (own, other));
            if !allowed && floor(other).is_none_or(|other| other >= at) {
                wrong.push(format!("{} names {other}", inside.display()));
            }
        }
    }
    assert!(arrows > 100, "{arrows} arrows found: does it still read them?");
    assert_eq!(wrong, Vec::<String>::new());
}

/// `make proofs-bite` takes long; that its faults still fit the code shows at once.
#[test]
fn every_fault_of_the_mutants_fits_the_code_and_names_a_test_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    files(&root.join("src"), &mut sources);
    let code: String = sources.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut wrong = Vec::new();
    for mutant in fs::read_dir(root.join("tests/mutants")).unwrap() {
        let mutant = mutant.unwrap().path();
        let patch = fs::read_to_string(&mutant).unwrap();
        let test = patch.lines().find_map(|line| line.strip_prefix("test: ")).expect("it names a test");
        let name = test.rsplit("::").next().unwrap();
        let target = patch.lines().find_map(|line| line.strip_prefix("--- a/")).expect("it names a file");
        let target = fs::read_to_string(root.join(target)).unwrap();
        let fits = patch.split("\n@@ ").skip(1).all(|hunk| {
            let before: Vec<&str> =
                hunk.lines().skip(1).filter_map(|line| line.strip_prefix([' ', '-'])).collect();
            target.contains(&before.join("\n"))
        });
        if !fits || !code.contains(&format!("fn {name}(")) {
            wrong.push(mutant);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
