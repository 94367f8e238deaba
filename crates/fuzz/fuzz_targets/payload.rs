//! libFuzzer on [`fuzz::payload`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::payload::check(input));
