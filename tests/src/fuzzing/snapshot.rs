//! Snapshots of the state: what stands behind sound checksums, as another version or a broken one might have
//! written it, is refused, or read, and then written again as it was read; and nothing less than a whole
//! file is a snapshot.

use std::io;

use tidings_bridge::state::StateRecord;
use tidings_bridge::state::snapshot::{read_from, write_to};
use tidings_core::message::{Epoch, Offset};

use super::choices::Choices;
use super::heap::peak_of;

const EPOCH: Epoch = Epoch(7);

/// Records of one file.
const MAX_RECORDS: usize = 16;

/// Bytes of memory for each byte of a file: an empty text takes one, and a place in a list.
const MEMORY_PER_BYTE: usize = 128;
const MEMORY: usize = 4 * 1024;

/// See the module. Choices of kinds, keys and values; the last byte cuts the file.
pub fn snapshot(data: &[u8]) {
    let (cut, data) = match data.split_last() {
        Some((cut, data)) => (usize::from(*cut), data),
        None => (0, data),
    };
    let file = file(&mut Choices::new(data));
    let (read, memory) = peak_of(|| read_from(&file, EPOCH));
    assert!(
        memory <= MEMORY + MEMORY_PER_BYTE * file.len(),
        "{memory} bytes"
    );
    let end = file.len() - 1 - cut % file.len();
    assert!(read_from(&file[..end], EPOCH).is_err(), "half a snapshot");
    assert!(
        read_from(&[&file[..], &[0]].concat(), EPOCH).is_err(),
        "more than one"
    );
    assert!(read_from(&file, Epoch(8)).is_err(), "another journal's");
    let Ok((applied, records)) = read else {
        return;
    };
    assert_eq!(applied, Offset(5));
    let places = || {
        records
            .iter()
            .map(|record| (record.kind(), record.key().clone()))
    };
    assert!(
        places().is_sorted_by(|one, next| one < next),
        "not in order"
    );
    let again = written(applied, &records).expect("what was read is written");
    let (_, read_again) = read_from(&again, EPOCH).expect("what was written is read");
    assert_eq!(read_again, records);
    assert_eq!(written(applied, &read_again).expect("again"), again);
}

fn written(applied: Offset, records: &[StateRecord]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    write_to(&mut out, EPOCH, applied, records.iter().cloned())?;
    Ok(out)
}

/// A file whose checksums are right, whatever is in it.
fn file(choices: &mut Choices<'_>) -> Vec<u8> {
    // The header and the end of a snapshot with nothing in it.
    let empty = written(Offset(5), &[]).expect("memory");
    let (header, end) = empty.split_at(empty.len() - 13);
    let mut out = header.to_vec();
    let mut count: u64 = 0;
    while !choices.is_empty() && count < MAX_RECORDS as u64 {
        let kind = choices.byte() % 8;
        let key_len = choices.below(64);
        let key = choices.bytes(key_len);
        let value_len = choices.below(256);
        let value = choices.bytes(value_len);
        if kind == 0 {
            break;
        }
        let mut frame = vec![kind];
        frame.extend((key.len() as u32).to_le_bytes());
        frame.extend((value.len() as u32).to_le_bytes());
        frame.extend_from_slice(key);
        frame.extend_from_slice(value);
        put(&mut out, &frame);
        count += 1;
    }
    let mut frame = vec![0];
    frame.extend(count.to_le_bytes());
    put(&mut out, &frame);
    assert!(
        count > 0 || out.ends_with(end),
        "the end of a file is known"
    );
    out
}

fn put(out: &mut Vec<u8>, frame: &[u8]) {
    out.extend_from_slice(frame);
    out.extend(crc32(frame).to_le_bytes());
}

/// CRC-32 as in IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), bit);
    !bytes.iter().fold(!0, byte)
}
