//! Every property on the stable compiler: on the committed inputs, and on random changes of them.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::fs;
use std::path::Path;

use fuzz::PROPERTIES;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The committed inputs of a property.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

/// Returns how many changed inputs are tried; an input that starts a service takes a tenth of a second.
fn n_mutants(name: &str) -> u32 {
    match name {
        "http" | "session" => 32,
        _ => 2048,
    }
}

/// Some committed input in which a few stretches have given way to others.
fn mutant(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let added = prop_oneof![3 => "[ -~]{0,4}".prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..4)];
    let changes = vec((any::<Index>(), 0..4_usize, added), 1..4);
    (select(corpus), changes).prop_map(|(mut input, changes)| {
        for (at, n_removed, added) in changes {
            let at = at.index(input.len() + 1);
            let end = input.len().min(at + n_removed);
            input.splice(at..end, added);
        }
        input
    })
}

#[test]
fn every_property_holds_for_the_corpus() {
    for (name, check) in PROPERTIES {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has a corpus");
        inputs.iter().for_each(|input| check(input));
    }
}

#[test]
fn every_property_holds_for_changed_inputs() {
    for (name, check) in PROPERTIES {
        proptest!(ProptestConfig::with_cases(n_mutants(name)), |(input in mutant(corpus(name)))| {
            check(&input);
        });
    }
}
