# The container of section 2: preamble, frames, index, footer. Checksums are not verified, and neither are the equations
# of 2.3 and 2.4; the metadata is JSON (section 3), payloads of chunks belong to their codecs. Public domain (CC0 1.0).
meta:
  id: latq
  title: latq file, version 1
  file-extension: latq
  endian: le
  license: CC0-1.0
  ks-version: '0.9'
doc-ref: latq-1.md
seq:
  - id: preamble
    type: preamble
instances:
  footer:
    pos: _io.size - 128
    type: footer
  metadata:
    pos: footer.metadata_offset
    type: frame
  index:
    pos: footer.index_offset
    type: index_frame
types:
  words:
    doc: In the preamble and again in the footer.
    seq:
      - id: major
        type: u2
      - id: minor
        type: u2
      - id: must_understand
        type: u8
        doc: Feature bits that a reader has to know.
      - id: may_ignore
        type: u8
        doc: Feature bits that a reader may ignore.
      - id: align_log2
        type: u1
        doc: Frames begin at multiples of 2^align_log2; 6..16.
  preamble:
    doc: Section 2.1.
    seq:
      - id: signature
        contents: [0x8b, 0x4c, 0x41, 0x54, 0x51, 0x0d, 0x0a, 0x1a]
      - id: words
        type: words
      - id: reserved
        size: 31
      - id: checksum
        type: u4
        doc: CRC32C of bytes 0..59.
  frame_header:
    doc: Section 2.2.
    seq:
      - id: magic
        contents: LQFR
      - id: kind
        type: u2
        enum: frame_kind
      - id: codec
        type: u2
        doc: Of a chunk, codec id + 256 * coding id.
      - id: tensor
        type: u4
      - id: chunk
        type: u4
      - id: payload_len
        type: u8
      - id: payload_crc
        type: u4
        doc: CRC32C of the payload.
      - id: checksum
        type: u4
        doc: CRC32C of bytes 0..27 of the frame.
  frame:
    seq:
      - id: header
        type: frame_header
      - id: payload
        size: header.payload_len
  index_frame:
    doc: Section 2.3.
    seq:
      - id: header
        type: frame_header
      - id: records
        type: record
        repeat: expr
        repeat-expr: header.payload_len / 40
  record:
    seq:
      - id: offset
        type: u8
      - id: payload_len
        type: u8
      - id: tensor
        type: u4
      - id: chunk
        type: u4
      - id: vectors
        type: u4
        doc: Of a raw chunk, entries.
      - id: codec
        type: u2
      - id: flags
        type: u2
      - id: payload_crc
        type: u4
      - id: reserved
        type: u4
    instances:
      frame:
        io: _root._io
        pos: offset
        type: frame
  footer:
    doc: Section 2.5.
    seq:
      - id: index_offset
        type: u8
      - id: index_len
        type: u8
      - id: metadata_offset
        type: u8
      - id: metadata_len
        type: u8
      - id: index_crc
        type: u4
      - id: metadata_crc
        type: u4
      - id: file_len
        type: u8
      - id: words
        type: words
      - id: reserved
        size: 47
      - id: checksum
        type: u4
        doc: CRC32C of bytes 0..115 of the footer.
      - id: closing_magic
        contents: [0x1a, 0x0a, 0x0d, 0x51, 0x54, 0x41, 0x4c, 0x8b]
enums:
  frame_kind:
    1: chunk
    2: index
    3: metadata
