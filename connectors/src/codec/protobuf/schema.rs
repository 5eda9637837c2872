//! `.proto` texts of a registry, compiled without `protoc`.

use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};

use super::super::explain::clipped;

/// Sizes beyond which a text is refused: far above what people write, below what parsing could choke on.
const TEXT_MAX: usize = 4 << 20;
const NESTING_MAX: usize = 64;
/// The name of the text itself; its imports have theirs.
const MAIN: &str = "karst.main.proto";

/// A compiled file with all that it imports.
#[derive(Clone)]
pub(super) struct ProtoSchema {
    pool: DescriptorPool,
    file: FileDescriptor,
}

impl ProtoSchema {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn compile(text: &str, imports: &[(String, String)]) -> Result<Self, String> {
        for text in std::iter::once(text).chain(imports.iter().map(|(_, text)| text.as_str())) {
            if text.len() > TEXT_MAX || nesting(text) > NESTING_MAX {
                return Err(format!("its text is longer than {TEXT_MAX} bytes or nested more than {NESTING_MAX} deep"));
            }
        }
        let mut files = vec![(MAIN.to_owned(), text.to_owned())];
        files.extend(imports.iter().cloned());
        let mut resolver = ChainFileResolver::new();
        resolver.add(Texts(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        let wrong = |error: protox::Error| clipped(&format!("{error:?}"), 240);
        let pool = compiler.open_file(MAIN).map_err(wrong)?.descriptor_pool();
        let file = pool.get_file_by_name(MAIN).ok_or("its own file is missing")?;
        Ok(Self { pool, file })
    }

    pub(super) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The message at these indexes: of the file, then of the message before.
    pub(super) fn message(&self, indexes: &[usize]) -> Option<MessageDescriptor> {
        let (first, inner) = indexes.split_first()?;
        let message = self.file.messages().nth(*first)?;
        inner.iter().try_fold(message, |message, index| message.child_messages().nth(*index))
    }
}

struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((name, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// How deep the braces of a text go; those in comments and strings may count, too.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'(' | b'<' => depth += 1,
            b'}' | b']' | b')' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
