//! The few messages of rtnetlink(7) and nf_tables that an environment's doors need, in bytes.
//!
//! It owns their form: a header, fields, attributes that may hold others, and the kernel's word on each message. It refuses to
//! guess: a message whose word is an error is an error, and one without a word is too.

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `nlmsg_flags` of netlink(7).
pub const REQUEST: u16 = 1;
/// The kernel says how it went.
pub const ACK: u16 = 4;
/// Made if it is not there.
pub const CREATE: u16 = 0x400;
/// Refused if it is there.
pub const EXCLUSIVE: u16 = 0x200;
/// After those that are there.
pub const APPEND: u16 = 0x800;
/// An attribute that holds others.
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
/// An answer of the kernel to a few messages, in bytes: each word repeats what it is about.
const MAX_ANSWER: usize = 64 * 1024;

/// Messages that go together.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    /// Which of them the kernel answers.
    answered: Vec<u32>,
    next: u32,
}

impl Messages {
    /// Adds a message: its type, its flags, and what `write` puts after its header.
    pub fn add(&mut self, kind: u16, flags: u16, write: impl FnOnce(&mut Writer<'_>)) {
        let begin = self.bytes.len();
        self.next += 1;
        if flags & ACK != 0 {
            self.answered.push(self.next);
        }
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.next.to_ne_bytes());
        self.bytes.extend([0; 4]);
        write(&mut Writer { bytes: &mut self.bytes });
        let len = u32::try_from(self.bytes.len() - begin).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(begin..begin + 4) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
    }

    /// Sends them and waits for the kernel's word on each. The first error is given, with the errors in `fine` counting as none.
    pub fn send(self, protocol: Option<Protocol>, fine: &[i32]) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        send(&socket, &self.bytes, SendFlags::empty())?;
        let mut waiting = self.answered;
        let mut first = None;
        while !waiting.is_empty() {
            for (number, error) in words(&socket)? {
                waiting.retain(|known| *known != number);
                if error != 0 && !fine.contains(&error) {
                    first.get_or_insert(error);
                }
            }
            // What is wrong with one message of a batch undoes all; the kernel says so once.
            if let Some(error) = first {
                return Err(io::Error::from_raw_os_error(error));
            }
        }
        Ok(())
    }
}

/// `NETLINK_ROUTE`, whose number is 0.
pub const ROUTE: Option<Protocol> = None;
/// `NETLINK_NETFILTER`.
pub const NETFILTER: Option<Protocol> = Some(netlink::NETFILTER);

/// The next words of the kernel: the number of a message, and the number of its error or 0.
fn words(socket: &OwnedFd) -> io::Result<Vec<(u32, i32)>> {
    let mut buffer = vec![0; MAX_ANSWER];
    let (len, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    let mut rest = buffer.get(..len).unwrap_or_default();
    let mut words = Vec::new();
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer does not read");
    while rest.len() >= HEADER + 4 {
        let word = |at: usize| rest.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok()).ok_or_else(strange);
        let len = usize::try_from(u32::from_ne_bytes(word(0)?)).map_err(|_| strange())?;
        let kind = rest.get(4..6).and_then(|two| <[u8; 2]>::try_from(two).ok()).ok_or_else(strange)?;
        if u16::from_ne_bytes(kind) == NLMSG_ERROR {
            words.push((u32::from_ne_bytes(word(8)?), i32::from_ne_bytes(word(HEADER)?).saturating_neg()));
        }
        rest = rest.get(len.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
    }
    if words.is_empty() { Err(strange()) } else { Ok(words) }
}

/// Writes what follows a header.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Fields of a fixed form, already in their order of bytes.
    pub fn fields(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn attribute(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let begin = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        write(self);
        let len = u16::try_from(self.bytes.len() - begin).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(begin..begin + 2) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
        self.pad();
    }

    /// An attribute of plain bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.bytes.extend(value));
    }

    /// A text, ended by a zero.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.bytes.extend(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// A number as nf_tables has it: the most significant byte first.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute of attributes.
    pub fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_what_they_hold_and_everything_begins_at_a_multiple_of_four() {
        let mut messages = Messages::default();
        messages.add(7, ACK, |writer| {
            writer.fields(&[1, 2, 3]);
            writer.nested(5, |writer| writer.text(6, "ab"));
        });
        let head = [[32, 0, 0, 0], [7, 0, 5, 0], [1, 0, 0, 0], [0; 4]].concat();
        let body = [[1, 2, 3, 0], [12, 0, 5, 0x80], [7, 0, 6, 0], [b'a', b'b', 0, 0]].concat();
        assert_eq!(messages.bytes, [head, body].concat());
        assert_eq!(messages.answered, [1]);
    }
}
