//! The bytes of a GGUF image: a mapped file, memory that this process filled, or a static.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::{Mmap, MmapMut};

use super::GgufError;
use crate::error::Error;

/// The alignment that an image's first byte has at least, so that every tensor can be read as what it is.
pub const IMAGE_ALIGNMENT: usize = 16;

/// Shared, immutable bytes. A clone is another handle on the same bytes.
#[derive(Clone)]
pub struct Storage(Source);

#[derive(Clone)]
enum Source {
    Static(&'static [u8]),
    Mapped(Arc<Mapped>),
}

struct Mapped {
    map: Mmap,
    /// Of memory that is no file, none.
    file: Option<FileIdentity>,
}

/// What tells a file, and a version of it, from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    /// Where it was when it was opened, absolute where the system says.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was written last.
    pub modified: SystemTime,
}

impl Storage {
    /// Maps a regular file.
    ///
    /// The file must not be changed or shortened while it is mapped: other programs would change the model under
    /// this one, and reading past a shortened file's end is a bus error.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn map(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::File { path: path.to_owned(), source };
        // Before it is opened, which for a pipe is to wait for someone who writes.
        let kind = std::fs::metadata(path).map_err(fail)?;
        if kind.is_dir() {
            return Err(fail(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        if !kind.is_file() {
            return Err(fail(std::io::Error::other("it is not a regular file")));
        }
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.len() == 0 {
            // A mapping of no bytes is an error of the system's; the reader has a better one.
            return Ok(Self(Source::Static(&[])));
        }
        // SAFETY: The mapping is private to this handle and only ever read. That no one else changes the file is the
        // documented condition of this function; every reader of a mapped file has it.
        let map = unsafe { Mmap::map(&file) }.map_err(fail)?;
        // A system without times of modification, or without the path, tells no versions apart.
        let file = metadata.modified().ok().map(|modified| FileIdentity {
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            bytes: metadata.len(),
            modified,
        });
        Ok(Self(Source::Mapped(Arc::new(Mapped { map, file }))))
    }

    /// The file that was mapped; `None` for memory, and where the system does not tell when a file was written.
    pub fn file(&self) -> Option<&FileIdentity> {
        match &self.0 {
            Source::Static(_) => None,
            Source::Mapped(mapped) => mapped.file.as_ref(),
        }
    }

    /// Borrows bytes that live as long as the program.
    ///
    /// # Errors
    /// [`GgufError::Misaligned`] if they do not start at a multiple of [`IMAGE_ALIGNMENT`].
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, GgufError> {
        if bytes.as_ptr().addr().is_multiple_of(IMAGE_ALIGNMENT) {
            Ok(Self(Source::Static(bytes)))
        } else {
            Err(GgufError::Misaligned { required: IMAGE_ALIGNMENT })
        }
    }

    /// Copies bytes into aligned memory.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn copy(bytes: &[u8]) -> Result<Self, Error> {
        let mut memory = Buffer::zeroed(bytes.len(), "a GGUF image")?;
        memory.bytes_mut().copy_from_slice(bytes);
        memory.freeze()
    }

    /// The bytes in `range`, which the caller took from the same image.
    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        &self[range]
    }
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Static(bytes) => bytes,
            Source::Mapped(mapped) => &mapped.map,
        }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Source::Static(_) => "static",
            Source::Mapped(_) => "mapped",
        };
        write!(f, "{} bytes ({kind})", self.len())
    }
}

/// Page-aligned zeroed memory that becomes a [`Storage`] when it is filled.
pub struct Buffer(Option<MmapMut>);

impl Buffer {
    /// `bytes` zeros. Pages that nobody writes take no memory.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn zeroed(bytes: usize, what: &str) -> Result<Self, Error> {
        if bytes == 0 {
            return Ok(Self(None));
        }
        match MmapMut::map_anon(bytes) {
            Ok(map) => Ok(Self(Some(map))),
            Err(error) => {
                tracing::debug!(%error, bytes, "anonymous mapping failed");
                Err(Error::Memory { what: what.to_owned(), bytes })
            }
        }
    }

    /// All of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or(&mut [])
    }

    /// Makes it immutable and shareable.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system does not let the pages be write-protected.
    pub fn freeze(self) -> Result<Storage, Error> {
        let Some(map) = self.0 else { return Ok(Storage(Source::Static(&[]))) };
        let bytes = map.len();
        let map = map.make_read_only().map_err(|error| {
            tracing::debug!(%error, bytes, "write protection failed");
            Error::Memory { what: "a write-protected image".to_owned(), bytes }
        })?;
        Ok(Storage(Source::Mapped(Arc::new(Mapped { map, file: None }))))
    }
}
