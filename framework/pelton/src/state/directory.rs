//! Can files be kept where the worker was told to? Tried before it joins, not when it needs them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::WorkerError;

/// Makes the directory if it is not there, and writes a file into it and takes it away again.
///
/// # Errors
///
/// If the directory can't be made, is none, or can't be written to: read only, no rights, full.
pub(crate) fn check(directory: &Path) -> Result<(), WorkerError> {
    let probe = directory.join(format!(".pelton-probe-{}", std::process::id()));
    let written = make(directory).and_then(|()| write(&probe));
    // Gone even after a write that failed half way, on a disk that is full.
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(|error| WorkerError::StateDirectory {
        path: directory.to_owned(),
        reason: error.to_string(),
    })
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"))
        }
        made => made,
    }
}

/// A page and its way to the disk: a disk that is full takes an empty file.
fn write(probe: &Path) -> io::Result<()> {
    let mut file = File::create(probe)?;
    file.write_all(&[0; 4096])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_tried_and_left_as_it_was() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("a/b");
        check(&inner).unwrap();
        check(&inner).unwrap();
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_directory_or_lies_below_none_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path().to_owned(), file.path().join("below"), "/proc/pelton".into()] {
            let error = check(&path).unwrap_err();
            assert_eq!((error.code().as_str(), error.exit_code()), ("PLT-0602", 1), "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
