//! The request decoder: any bytes get clean answers or none, and the service goes on.

use std::sync::Mutex;

use crate::service::Service;

/// Inputs that one service gets, one after the other: to start one takes as long as dozens of them.
const INPUTS_PER_SERVICE: usize = 100;

static RUNNING: Mutex<Option<(Service, usize)>> = Mutex::new(None);

/// Input: what is sent on one connection.
pub fn check(input: &[u8]) {
    let mut running = RUNNING.lock().unwrap();
    let (service, n_inputs) = running.get_or_insert_with(|| (Service::start(), 0));
    service.ask(input);
    let alive = service.ask(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(alive.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200]);
    *n_inputs += 1;
    if *n_inputs == INPUTS_PER_SERVICE {
        let (service, n_inputs) = running.take().unwrap();
        assert!(service.stop().len() >= n_inputs, "a request is a line of the log");
    }
}
