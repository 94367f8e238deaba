//! The contract, from outside: the real binary, bytes in, status and body out. One file a section.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod backup;
mod commands;
mod crash;
mod delete;
mod disk;
mod door;
mod export;
mod fairness;
mod faults;
mod files;
mod health;
mod http;
mod listener;
mod logs;
mod messages;
mod metrics;
mod openapi;
mod overload;
mod powercut;
mod process;
mod raw_requests;
mod retention;
mod searches;
mod secrets;
mod selftest;
mod send;
mod stats;
mod test_app;
mod webhook;
mod webhook_bodies;
