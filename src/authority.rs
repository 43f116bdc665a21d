//! A connection of the kubelet, as our HTTP/2 library can read it.
//!
//! For plugin registration the kubelet calls with the socket's path in `:authority`, written `%2Fvar%2Flib…`. RFC 3986 section 3.2 has
//! no such authority, and the library resets the stream before anybody here sees it. Nobody needs the value, so it is
//! replaced on its way: in frames (RFC 9113 section 4.1) with a header block (RFC 7541 section 6), and nothing else is touched.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// What a client sends before its first frame (RFC 9113 section 3.4), in bytes.
const PREFACE: usize = 24;
/// Of a frame: its length, type, flags and stream.
const HEADER: usize = 9;
/// No peer may send more in a frame before it is allowed to, and we don't allow it (RFC 9113 section 4.2).
const LONGEST: usize = 1 << 14;
/// The frame type HEADERS, and its flags.
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// What stands for any `:authority`.
const AUTHORITY: &[u8] = b"localhost";

/// A connection, of which every `:authority` may read `localhost`. One type serves both sockets, for each type of
/// connection is a copy of the HTTP/2 server in the program.
#[derive(Debug)]
pub(crate) struct Readable {
    inner: UnixStream,
    /// None where all is read as it came.
    frames: Option<Frames>,
    /// How much of `frames.whole` was read.
    given: usize,
}

/// What came, frame by frame.
#[derive(Debug)]
struct Frames {
    /// Of the preface, still to pass.
    preface: usize,
    /// Not a whole frame yet.
    raw: Vec<u8>,
    /// To be read by the library.
    whole: Vec<u8>,
}

impl Readable {
    /// Of a connection that a kubelet made, to be told who is here.
    pub(crate) fn of_kubelet(inner: UnixStream) -> Self {
        Self { inner, frames: Some(Frames::new()), given: 0 }
    }

    /// Of a connection that needs none of this.
    pub(crate) fn as_it_is(inner: UnixStream) -> Self {
        Self { inner, frames: None, given: 0 }
    }
}

impl Frames {
    fn new() -> Self {
        Self { preface: PREFACE, raw: Vec::new(), whole: Vec::new() }
    }

    /// Moves what is whole from `raw` to `whole`.
    fn sort(&mut self) {
        let preface = self.preface.min(self.raw.len());
        self.whole.extend(self.raw.drain(..preface));
        self.preface -= preface;
        while let Some(&[a, b, c, kind, flags, ..]) =
            self.raw.first_chunk::<HEADER>().map(<[u8; HEADER]>::as_slice)
        {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let end = HEADER + length;
            if length > LONGEST {
                // Not ours to judge: the library ends the connection.
                self.whole.append(&mut self.raw);
                return;
            }
            if self.raw.len() < end {
                return;
            }
            let frame: Vec<u8> = self.raw.drain(..end).collect();
            // A block in several frames, or with padding, is not what the kubelet sends.
            let is_plain = kind == HEADERS && flags & END_HEADERS != 0 && flags & PADDED == 0;
            self.whole.extend(is_plain.then(|| readable(&frame, flags)).flatten().unwrap_or(frame));
        }
    }
}

/// A frame with a header block, with another authority; nothing if its block is none that can be followed.
fn readable(frame: &[u8], flags: u8) -> Option<Vec<u8>> {
    let (header, payload) = frame.split_at_checked(HEADER)?;
    let (priority, block) = payload.split_at_checked(if flags & PRIORITY == 0 { 0 } else { 5 })?;
    let block = [priority, &replaced(block)?].concat();
    let length = u32::try_from(block.len()).ok()?.to_be_bytes();
    Some([&length[1..], &header[3..], &block].concat())
}

/// A header block whose `:authority` is another.
fn replaced(mut block: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::with_capacity(block.len());
    while let Some(&first) = block.first() {
        // Indexed; literal to be remembered; a change of the table's size; literal. How many bits the first number has.
        let (bits, is_literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let (name, length) = number(block, bits)?;
        take(&mut block, length, &mut whole)?;
        if !is_literal {
            continue;
        }
        if name == 0 {
            let length = string(block)?;
            take(&mut block, length, &mut whole)?;
        }
        let length = string(block)?;
        // In the table that everybody has, entry 1 is `:authority`.
        if name == 1 {
            take(&mut block, length, &mut Vec::new())?;
            whole.push(u8::try_from(AUTHORITY.len()).ok()?);
            whole.extend(AUTHORITY);
        } else {
            take(&mut block, length, &mut whole)?;
        }
    }
    Some(whole)
}

/// Moves so many bytes.
fn take(from: &mut &[u8], length: usize, to: &mut Vec<u8>) -> Option<()> {
    let (taken, rest) = from.split_at_checked(length)?;
    to.extend(taken);
    *from = rest;
    Some(())
}

/// A number whose first byte has `bits` of it (RFC 7541 section 5.1), and how many bytes it takes.
fn number(bytes: &[u8], bits: u32) -> Option<(usize, usize)> {
    let most = (1 << bits) - 1;
    let first = usize::from(*bytes.first()?) & most;
    if first < most {
        return Some((first, 1));
    }
    let (mut value, mut shift) = (most, 0);
    for (place, byte) in bytes.iter().enumerate().skip(1).take(4) {
        value += usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

/// How many bytes a string takes, its length with it (RFC 7541 section 5.2).
fn string(bytes: &[u8]) -> Option<usize> {
    let (length, bytes) = number(bytes, 7)?;
    length.checked_add(bytes)
}

impl AsyncRead for Readable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, frames, given } = &mut *self;
        let Some(frames) = frames else { return Pin::new(inner).poll_read(context, buffer) };
        while *given == frames.whole.len() {
            frames.whole.clear();
            *given = 0;
            let mut chunk = [0; 4096];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut *inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            frames.raw.extend(read.filled());
            frames.sort();
        }
        let length = buffer.remaining().min(frames.whole.len() - *given);
        buffer.put_slice(&frames.whole[*given..*given + length]);
        *given += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Readable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl Connected for Readable {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:method: POST`, `:scheme: http`, `:path: /p` remembered, `:authority` remembered, `te: trailers` by both names.
    fn block(authority: &[u8]) -> Vec<u8> {
        let length = u8::try_from(authority.len()).unwrap();
        [b"\x83\x86\x44\x02/p\x41", [length].as_slice(), authority, b"\x40\x02te\x08trailers"].concat()
    }

    #[test]
    fn an_authority_is_replaced_and_all_else_is_as_it_was() {
        assert_eq!(replaced(&block(b"%2Fvar%2Flib%2Fkubelet")), Some(block(AUTHORITY)));
        assert_eq!(replaced(b"\x82\xbe\x20\x0f\x2f\x01x"), Some(b"\x82\xbe\x20\x0f\x2f\x01x".to_vec()));
    }

    #[test]
    fn a_long_authority_has_a_length_of_two_bytes() {
        let long = [b"\x41\x7f\x49".as_slice(), &[b'a'; 200], b"\x83"].concat();
        assert_eq!(replaced(&long), Some([b"\x41\x09localhost".as_slice(), b"\x83"].concat()));
    }

    #[test]
    fn a_block_that_breaks_off_is_left_to_the_library() {
        let whole = block(b"%2F");
        let followed = (1..whole.len()).filter(|end| replaced(&whole[..*end]).is_some()).count();
        // It may end between two fields, of which there are five.
        assert_eq!(followed, 4);
        assert_eq!(replaced(b"\x41\xff\xff\xff\xff\xff\x01"), None);
    }

    #[test]
    fn frames_pass_whole_however_they_come() {
        let frame = |kind: u8, flags: u8, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
        };
        let stream = |authority: &[u8]| {
            let data = frame(0, 1, &block(b"%2F"));
            let headers = frame(HEADERS, END_HEADERS, &block(authority));
            [&[b'P'; PREFACE], frame(4, 0, &[]).as_slice(), &headers, &data].concat()
        };
        for step in [1, 7, 4096] {
            let mut given = Vec::new();
            let mut frames = Frames::new();
            for chunk in stream(b"%2Fvar%2Flib").chunks(step) {
                frames.raw.extend(chunk);
                frames.sort();
                given.append(&mut frames.whole);
            }
            assert_eq!(given, stream(AUTHORITY));
        }
    }
}
