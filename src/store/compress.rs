//! Row bodies are kept as zstd with a checksum, and unpacked within a bound.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, get_frame_content_size};

/// One of the fast levels below 1: rows of one source repeat themselves so much that they become small all the same,
/// and every row is packed and unpacked once while nobody needs the disk for long.
const LEVEL: i32 = -2;

thread_local! {
    // Each has tables that take longer to make than a small body to pack.
    static PACKER: RefCell<Compressor<'static>> = RefCell::new(packer());
    static UNPACKER: RefCell<Decompressor<'static>> =
        RefCell::new(Decompressor::new().expect("there is memory for its tables"));
}

fn packer() -> Compressor<'static> {
    let mut packer = Compressor::new(LEVEL).expect("every zstd has it");
    packer.set_parameter(CParameter::ChecksumFlag(true)).expect("every zstd has checksums");
    packer
}

/// Packs a body.
pub(super) fn pack(body: &[u8]) -> Vec<u8> {
    PACKER.with_borrow_mut(|packer| packer.compress(body)).expect("packing into memory cannot fail")
}

/// How many bytes a packed body says that it holds.
pub(super) fn unpacked_bytes(packed: &[u8]) -> usize {
    let bytes = get_frame_content_size(packed).ok().flatten().unwrap_or(0);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Unpacks a body of at most `limit` bytes; the error is a reason in words.
pub(super) fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let bytes = unpacked_bytes(packed);
    if bytes > limit {
        return Err(format!("it says to hold {bytes} bytes, above the bound of {limit}"));
    }
    UNPACKER.with_borrow_mut(|unpacker| unpacker.decompress(packed, bytes)).map_err(|error| error.to_string())
}
