//! Values that must not be seen: signing secrets, passwords, tokens, keys.
//!
//! **No `Debug`, no `Display`, no `Serialize`**, wiped when dropped. Who needs the
//! text asks for it by [`Secret::expose`], which is easy to search for.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What every read shows in a secret's place, and what a write sends to keep it.
pub const MASK: &str = "***";

/// A secret text.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` over.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// The text itself, for the one place that must have it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the mask that stands for "keep what is stored".
    pub fn is_mask(&self) -> bool {
        self.0.as_str() == MASK
    }
}

impl PartialEq for Secret {
    /// In constant time for texts of one length.
    fn eq(&self, other: &Secret) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}
