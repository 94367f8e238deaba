//! Workers: tasks that run beside the requests.

pub(crate) mod retention;
pub(crate) mod text_index;
