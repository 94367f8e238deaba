//! The contract suite: one function for each promise of the storage ports, listed in [`PROMISES`].
//!
//! Each promise takes an empty store and panics where the promise is broken. Every adapter runs the whole list, and so does
//! the reference model. `mutants` shows that the suite finds the usual faults.

mod append;
mod ask;
mod expiry;
mod listing;
mod model;
#[cfg(test)]
mod mutants;
mod racing;
mod sample;
mod stats;
mod text;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::query::MessageQuery;
use crate::retention::MessageExpiry;
use crate::store::MessageStore;

pub use sample::Sample;

/// A store under test: all ports on it.
pub trait Store: MessageStore + MessageQuery + MessageExpiry {}
impl<T: MessageStore + MessageQuery + MessageExpiry> Store for T {}

/// Opens one store, which is empty at first.
pub trait Stores {
    /// Returns another handle on the store, as another process has it. Once all handles are dropped, the next one is a
    /// restart.
    fn open(&self) -> Arc<dyn Store>;
}

/// A promise on an empty store.
pub type Promise = for<'a> fn(&'a dyn Stores) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! promises {
    ($($module:ident: $($name:ident),* ;)*) => {
        /// Every promise by its name.
        pub const PROMISES: &[(&str, Promise)] =
            &[$($((stringify!($name), |stores| Box::pin($module::$name(stores)))),*),*];
    };
}
promises![
    append:
        the_first_message_of_a_key_is_stored_and_the_second_is_not,
        a_key_twice_in_one_delivery_is_stored_once,
        a_delivery_is_answered_in_its_order,
        ids_are_compared_byte_for_byte,
        one_id_of_two_sources_is_two_messages,
        a_caller_that_hangs_up_does_not_lose_the_message,
        what_was_stored_comes_back_as_it_was_sent;
    racing:
        of_racing_appends_at_most_one_stores,
        a_delivery_is_seen_whole_or_not_at_all,
        a_listing_is_one_snapshot,
        an_appended_message_is_seen_by_the_next_query,
        a_message_is_seen_through_another_handle,
        a_message_is_there_after_a_restart;
    listing:
        an_empty_store_answers_with_nothing,
        order_is_by_time_then_by_id_in_byte_order,
        ids_are_listed_in_byte_order,
        a_fraction_of_any_allowed_length_counts,
        since_is_inclusive_and_exact,
        filters_are_anded,
        a_page_is_a_stretch_of_the_order_and_total_is_of_all,
        a_deep_page_since_the_middle_of_a_second_begins_where_it_should,
        pages_after_a_place_are_the_listing_whatever_comes_in_between;
    text:
        text_is_found_without_regard_to_case_and_without_wildcards,
        case_is_folded_in_full;
    stats:
        stats_count_all_and_rank_the_senders,
        a_store_that_works_is_ready;
    expiry:
        an_expired_message_is_gone_and_its_key_is_not,
        a_clock_that_jumps_removes_nothing,
        without_retention_nothing_expires;
    model:
        a_store_answers_as_the_reference_model_does;
];
