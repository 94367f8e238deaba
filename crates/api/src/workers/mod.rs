//! Workers: tasks that run beside the requests.

pub mod retention;
pub mod text_index;
