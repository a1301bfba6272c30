# Of spec/latq.ksy, SHA-256 0678702e05857ffd683fbe2a741541979febd988a9f5e6e86e493367d16cf6a1, by kaitai-struct-compiler 0.11.0.
# This is a generated file! Please edit source .ksy file and use kaitai-struct-compiler to rebuild
# type: ignore

import kaitaistruct
from kaitaistruct import KaitaiStruct, KaitaiStream, BytesIO
from enum import IntEnum


if getattr(kaitaistruct, 'API_VERSION', (0, 9)) < (0, 11):
    raise Exception("Incompatible Kaitai Struct Python API: 0.11 or later is required, but you have %s" % (kaitaistruct.__version__))

class Latq(KaitaiStruct):
    """
    .. seealso::
       latq-1.md
    """

    class FrameKind(IntEnum):
        chunk = 1
        index = 2
        metadata = 3
    def __init__(self, _io, _parent=None, _root=None):
        super(Latq, self).__init__(_io)
        self._parent = _parent
        self._root = _root or self
        self._read()

    def _read(self):
        self.preamble = Latq.Preamble(self._io, self, self._root)


    def _fetch_instances(self):
        pass
        self.preamble._fetch_instances()
        _ = self.footer
        if hasattr(self, '_m_footer'):
            pass
            self._m_footer._fetch_instances()

        _ = self.index
        if hasattr(self, '_m_index'):
            pass
            self._m_index._fetch_instances()

        _ = self.metadata
        if hasattr(self, '_m_metadata'):
            pass
            self._m_metadata._fetch_instances()


    class Footer(KaitaiStruct):
        """Section 2.5."""
        def __init__(self, _io, _parent=None, _root=None):
            super(Latq.Footer, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.index_offset = self._io.read_u8le()
            self.index_len = self._io.read_u8le()
            self.metadata_offset = self._io.read_u8le()
            self.metadata_len = self._io.read_u8le()
            self.index_crc = self._io.read_u4le()
            self.metadata_crc = self._io.read_u4le()
            self.file_len = self._io.read_u8le()
            self.words = Latq.Words(self._io, self, self._root)
            self.reserved = self._io.read_bytes(47)
            self.checksum = self._io.read_u4le()
            self.closing_magic = self._io.read_bytes(8)
            if not self.closing_magic == b"\x1A\x0A\x0D\x51\x54\x41\x4C\x8B":
                raise kaitaistruct.ValidationNotEqualError(b"\x1A\x0A\x0D\x51\x54\x41\x4C\x8B", self.closing_magic, self._io, u"/types/footer/seq/10")


        def _fetch_instances(self):
            pass
            self.words._fetch_instances()


    class Frame(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Latq.Frame, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.header = Latq.FrameHeader(self._io, self, self._root)
            self.payload = self._io.read_bytes(self.header.payload_len)


        def _fetch_instances(self):
            pass
            self.header._fetch_instances()


    class FrameHeader(KaitaiStruct):
        """Section 2.2."""
        def __init__(self, _io, _parent=None, _root=None):
            super(Latq.FrameHeader, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.magic = self._io.read_bytes(4)
            if not self.magic == b"\x4C\x51\x46\x52":
                raise kaitaistruct.ValidationNotEqualError(b"\x4C\x51\x46\x52", self.magic, self._io, u"/types/frame_header/seq/0")
            self.kind = KaitaiStream.resolve_enum(Latq.FrameKind, self._io.read_u2le())
            self.codec = self._io.read_u2le()
            self.tensor = self._io.read_u4le()
            self.chunk = self._io.read_u4le()
            self.payload_len = self._io.read_u8le()
            self.payload_crc = self._io.read_u4le()
            self.checksum = self._io.read_u4le()


        def _fetch_instances(self):
            pass


    class IndexFrame(KaitaiStruct):
        """Section 2.3."""
        def __init__(self, _io, _parent=None, _root=None):
            super(Latq.IndexFrame, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.header = Latq.FrameHeader(self._io, self, self._root)
            self.records = []
            for i in range(self.header.payload_len // 40):
                self.records.append(Latq.Record(self._io, self, self._root))



        def _fetch_instances(self):
            pass
            self.header._fetch_instances()
            for i in range(len(self.records)):
                pass
                self.records[i]._fetch_instances()



    class Preamble(KaitaiStruct):
        """Section 2.1."""
        def __init__(self, _io, _parent=None, _root=None):
            super(Latq.Preamble, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.signature = self._io.read_bytes(8)
            if not self.signature == b"\x8B\x4C\x41\x54\x51\x0D\x0A\x1A":
                raise kaitaistruct.ValidationNotEqualError(b"\x8B\x4C\x41\x54\x51\x0D\x0A\x1A", self.signature, self._io, u"/types/preamble/seq/0")
            self.words = Latq.Words(self._io, self, self._root)
            self.reserved = self._io.read_bytes(31)
            self.checksum = self._io.read_u4le()


        def _fetch_instances(self):
            pass
            self.words._fetch_instances()


    class Record(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Latq.Record, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.offset = self._io.read_u8le()
            self.payload_len = self._io.read_u8le()
            self.tensor = self._io.read_u4le()
            self.chunk = self._io.read_u4le()
            self.vectors = self._io.read_u4le()
            self.codec = self._io.read_u2le()
            self.flags = self._io.read_u2le()
            self.payload_crc = self._io.read_u4le()
            self.reserved = self._io.read_u4le()


        def _fetch_instances(self):
            pass
            _ = self.frame
            if hasattr(self, '_m_frame'):
                pass
                self._m_frame._fetch_instances()


        @property
        def frame(self):
            if hasattr(self, '_m_frame'):
                return self._m_frame

            io = self._root._io
            _pos = io.pos()
            io.seek(self.offset)
            self._m_frame = Latq.Frame(io, self, self._root)
            io.seek(_pos)
            return getattr(self, '_m_frame', None)


    class Words(KaitaiStruct):
        """In the preamble and again in the footer."""
        def __init__(self, _io, _parent=None, _root=None):
            super(Latq.Words, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.major = self._io.read_u2le()
            self.minor = self._io.read_u2le()
            self.must_understand = self._io.read_u8le()
            self.may_ignore = self._io.read_u8le()
            self.align_log2 = self._io.read_u1()


        def _fetch_instances(self):
            pass


    @property
    def footer(self):
        if hasattr(self, '_m_footer'):
            return self._m_footer

        _pos = self._io.pos()
        self._io.seek(self._io.size() - 128)
        self._m_footer = Latq.Footer(self._io, self, self._root)
        self._io.seek(_pos)
        return getattr(self, '_m_footer', None)

    @property
    def index(self):
        if hasattr(self, '_m_index'):
            return self._m_index

        _pos = self._io.pos()
        self._io.seek(self.footer.index_offset)
        self._m_index = Latq.IndexFrame(self._io, self, self._root)
        self._io.seek(_pos)
        return getattr(self, '_m_index', None)

    @property
    def metadata(self):
        if hasattr(self, '_m_metadata'):
            return self._m_metadata

        _pos = self._io.pos()
        self._io.seek(self.footer.metadata_offset)
        self._m_metadata = Latq.Frame(self._io, self, self._root)
        self._io.seek(_pos)
        return getattr(self, '_m_metadata', None)


