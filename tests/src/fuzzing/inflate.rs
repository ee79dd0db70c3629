//! The plainest reading of RFC 1951, bit by bit, to hold a fast one against; and of RFC 7692, which says
//! what of it is a message.

/// What the sender of a message leaves out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Streams that may end inside of a message.
const ENDS: usize = 8;

/// RFC 1951 §3.2.5: the shortest length of each code from 257 on, and the bits that are added to it.
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
/// The same of distances.
const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];
/// §3.2.7: in which order the lengths of the codes for lengths come.
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// What a compressed message was; nothing if it is none, or has more than `limit` bytes.
pub(super) fn inflate(mut message: Vec<u8>, limit: usize) -> Option<Vec<u8>> {
    message.extend(TAIL);
    let mut bits = Bits {
        bytes: &message,
        at: 0,
    };
    let mut out = Vec::new();
    for _ in 0..=ENDS {
        let mut stream = Vec::new();
        let outcome = bits.stream(&mut stream, limit - out.len());
        out.extend(stream);
        match outcome {
            // What ends in the middle counts as far as it is there.
            Err(Broken::Ended) => return Some(out),
            Err(Broken::Wrong) => return None,
            Ok(()) => bits.at = bits.at.next_multiple_of(8),
        }
        if bits.at / 8 == message.len() {
            return Some(out);
        }
    }
    None
}

enum Broken {
    /// There are no more bits.
    Ended,
    /// No compressor writes that, or it is too much.
    Wrong,
}

struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that were read.
    at: usize,
}

/// How often each length of a code occurs, and the symbols in the order of their codes (§3.2.2).
struct Codes {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

impl Codes {
    /// Lengths that leave codes unused are wrong, but for one symbol alone, or none.
    fn new(lengths: &[u8]) -> Result<Self, Broken> {
        let mut counts = [0; 16];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let mut left = 1_i32;
        for count in &counts[1..] {
            left = 2 * left - i32::from(*count);
            if left < 0 {
                return Err(Broken::Wrong);
            }
        }
        let mut symbols: Vec<u16> = (0..lengths.len() as u16)
            .filter(|symbol| lengths[usize::from(*symbol)] > 0)
            .collect();
        if left > 0 && !(symbols.is_empty() || symbols.len() == 1 && counts[1] == 1) {
            return Err(Broken::Wrong);
        }
        symbols.sort_by_key(|symbol| lengths[usize::from(*symbol)]);
        Ok(Self { counts, symbols })
    }
}

impl Bits<'_> {
    fn take(&mut self, count: u8) -> Result<u16, Broken> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or(Broken::Ended)?;
            value |= u16::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Ok(value)
    }

    fn symbol(&mut self, codes: &Codes) -> Result<u16, Broken> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &codes.counts[1..] {
            code |= i32::from(self.take(1)?);
            let count = i32::from(*count);
            if code - count < first {
                return Ok(codes.symbols[(index + (code - first)) as usize]);
            }
            if codes.symbols.len() < 2 {
                return Err(Broken::Wrong);
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(Broken::Wrong)
    }

    /// As zlib does, each bit is a length of 0 where there are no codes for lengths; such a block cannot end.
    fn length(&mut self, codes: &Codes) -> Result<u16, Broken> {
        if codes.symbols.is_empty() {
            return self.take(1).map(|_| 0);
        }
        self.symbol(codes)
    }

    /// Blocks up to the last (§3.2.3).
    fn stream(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), Broken> {
        loop {
            let is_last = self.take(1)? == 1;
            match self.take(2)? {
                0 => self.stored(out, limit)?,
                1 => {
                    let lengths = [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat();
                    self.block(&Codes::new(&lengths)?, &Codes::new(&[5; 32])?, out, limit)?;
                }
                2 => {
                    let (literals, distances) = self.codes()?;
                    self.block(&literals, &distances, out, limit)?;
                }
                _ => return Err(Broken::Wrong),
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// §3.2.4.
    fn stored(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), Broken> {
        self.at = self.at.next_multiple_of(8);
        let (length, check) = (self.take(16)?, self.take(16)?);
        if length != !check {
            return Err(Broken::Wrong);
        }
        for _ in 0..length {
            out.push(self.take(8)? as u8);
            within(out, limit)?;
        }
        Ok(())
    }

    /// §3.2.7.
    fn codes(&mut self) -> Result<(Codes, Codes), Broken> {
        let literals = usize::from(self.take(5)?) + 257;
        let distances = usize::from(self.take(5)?) + 1;
        let count = usize::from(self.take(4)?) + 4;
        if literals > 286 || distances > 30 {
            return Err(Broken::Wrong);
        }
        let mut lengths = [0; 19];
        for place in &ORDER[..count] {
            lengths[*place] = self.take(3)? as u8;
        }
        let codes = Codes::new(&lengths)?;
        // Here not even one symbol may be alone.
        if codes.symbols.len() == 1 {
            return Err(Broken::Wrong);
        }
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            let (length, times) = match self.length(&codes)? {
                16 => {
                    let times = 3 + self.take(2)?;
                    (*lengths.last().ok_or(Broken::Wrong)?, times)
                }
                17 => (0, 3 + self.take(3)?),
                18 => (0, 11 + self.take(7)?),
                length => (length as u8, 1),
            };
            lengths.extend(std::iter::repeat_n(length, usize::from(times)));
        }
        // A block that cannot end is none.
        if lengths.len() > literals + distances || lengths[256] == 0 {
            return Err(Broken::Wrong);
        }
        let (literals, distances) = lengths.split_at(literals);
        Ok((Codes::new(literals)?, Codes::new(distances)?))
    }

    /// Literals, and what was there before.
    fn block(
        &mut self,
        literals: &Codes,
        distances: &Codes,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Broken> {
        loop {
            match self.symbol(literals)? {
                literal @ 0..=255 => out.push(literal as u8),
                256 => return Ok(()),
                code => {
                    let entry = LENGTHS.get(usize::from(code) - 257);
                    let (length, bits) = entry.ok_or(Broken::Wrong)?;
                    let length = length + self.take(*bits)?;
                    let code = self.symbol(distances)?;
                    let (distance, bits) = DISTANCES.get(usize::from(code)).ok_or(Broken::Wrong)?;
                    let distance = usize::from(*distance) + usize::from(self.take(*bits)?);
                    for _ in 0..length {
                        let from = out.len().checked_sub(distance).ok_or(Broken::Wrong)?;
                        out.push(out[from]);
                        within(out, limit)?;
                    }
                }
            }
            within(out, limit)?;
        }
    }
}

fn within(out: &[u8], limit: usize) -> Result<(), Broken> {
    if out.len() > limit {
        return Err(Broken::Wrong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7692_7_2_3_the_examples_are_read() {
        for packed in [
            &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..],
            &[
                0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00,
            ],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            &[
                0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
            ],
        ] {
            assert_eq!(inflate(packed.to_vec(), 5).as_deref(), Some(&b"Hello"[..]));
            assert_eq!(inflate(packed.to_vec(), 4), None);
        }
        assert_eq!(inflate(vec![0xFF; 10], 100), None);
    }
}
