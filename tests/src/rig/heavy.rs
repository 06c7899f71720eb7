//! How large are the effects of a heavy worker's records?

use std::fmt;
use std::str::FromStr;

/// The effects of a heavy worker's records. Every record's place is emitted; of some, large
/// values with it, and large values are put into a store.
///
/// ```
/// use pelton_tests::Heavy;
///
/// let heavy = Heavy { emit_one_in: 4, emit_bytes: 900_000, put_one_in: 0, put_bytes: 0 };
/// assert_eq!(heavy.to_string().parse(), Ok(heavy));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heavy {
    /// One record in so many emits a large value; 0: none does.
    pub emit_one_in: i64,
    /// How large.
    pub emit_bytes: usize,
    /// One record in so many puts a large value into the store; 0: none does.
    pub put_one_in: i64,
    /// How large. A partition has four such keys.
    pub put_bytes: usize,
}

impl Heavy {
    /// Does the record at this offset emit a large value?
    #[must_use]
    pub fn emits(&self, offset: i64) -> bool {
        self.emit_one_in > 0 && offset % self.emit_one_in == 0
    }

    /// Does the record at this offset put a large value?
    #[must_use]
    pub fn puts(&self, offset: i64) -> bool {
        self.put_one_in > 0 && offset % self.put_one_in == 0
    }
}

impl fmt::Display for Heavy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.emit_one_in, self.emit_bytes, self.put_one_in, self.put_bytes)
    }
}

impl FromStr for Heavy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
        match numbers.map_err(|error| error.to_string())?[..] {
            [emit_one_in, emit_bytes, put_one_in, put_bytes] => Ok(Self {
                emit_one_in: emit_one_in.into(),
                emit_bytes: usize::try_from(emit_bytes).unwrap_or(0),
                put_one_in: put_one_in.into(),
                put_bytes: usize::try_from(put_bytes).unwrap_or(0),
            }),
            _ => Err("four numbers are wanted".to_owned()),
        }
    }
}
