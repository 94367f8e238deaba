//! libFuzzer on [`fuzz::time`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::time::check(input));
