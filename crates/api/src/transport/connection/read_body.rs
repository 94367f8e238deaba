//! Reading of a request's body, as far as it reaches and no further.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stage::Stage;
use super::{Connection, READ_BYTES_MAX};
use crate::transport::chunks::WrongAt;

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// Reads more of a body.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.exchange.is_answering.get() {
            self.interim = b"";
        }
        while !self.interim.is_empty() {
            let n_bytes = ready!(Pin::new(&mut self.io).poll_write(cx, self.interim))?;
            self.interim = &self.interim[n_bytes..];
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        }
        let mut bytes_max = buf.remaining().min(READ_BYTES_MAX);
        if let Stage::Body(rest) = self.stage {
            bytes_max = bytes_max.min(usize::try_from(rest).unwrap_or(usize::MAX));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(bytes_max));
        let read = Pin::new(&mut self.io).poll_read(cx, &mut part);
        if read.is_pending() {
            self.exchange.permit.waits();
        }
        ready!(read)?;
        let bytes = part.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.exchange.has_sent();
        // After less than there was room for there is no more now, and the next try waits for it.
        self.has_read_much = bytes.len() == bytes_max;
        let mut n_bytes = bytes.len();
        match &mut self.stage {
            Stage::Body(rest) => *rest -= n_bytes as u64,
            Stage::Chunks(chunks) => match chunks.read(bytes) {
                Ok(n_right) => {
                    self.ahead.extend_from_slice(&bytes[n_right..]);
                    n_bytes = n_right;
                }
                Err(WrongAt(n_right)) => {
                    n_bytes = n_right;
                    self.stage = Stage::End;
                }
            },
            Stage::Head | Stage::Rest | Stage::End => {}
        }
        self.stage = mem::replace(&mut self.stage, Stage::End).unless_ended();
        buf.advance(n_bytes);
        Poll::Ready(Ok(()))
    }
}
