//! Compute shaders with their constants filled in.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use burn::backend::wgpu::CubeDim;
use cubecl::{
    CubeKernel, PrecompiledSource,
    ir::{UIntKind, metadata::Info},
    prelude::{
        AddressType, CubeCount, ElemType, ExecutionMode, KernelDefinition, KernelId,
        KernelMetadata, KernelSettings, Scope,
    },
    server::KernelArguments,
};

use super::memory::Buffer;

/// A compute shader with its constants filled in. It is compiled when it is launched for the first time
/// on a device, and kept there.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    text: Text,
    threads: u32,
}

/// A shader's text, which is also what compiled shaders are found by: every launch hashes it, so its
/// hash is worked out once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    hash: u64,
    source: Arc<str>,
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl Kernel {
    /// `parts`, one after the other, behind the constants and `THREADS`, the size of a workgroup. Every
    /// loop of theirs ends, whatever the buffers hold.
    pub(crate) fn new(parts: &[&str], threads: u32, constants: &[(&str, Constant)]) -> Self {
        let mut source = format!("const THREADS: u32 = {threads}u;\n");
        for (name, value) in constants {
            source.push_str(&format!("const {name}: {value};\n"));
        }
        source.extend(parts.iter().copied());
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        Self { text: Text { hash: hasher.finish(), source: source.into() }, threads }
    }

    /// Queues the kernel in `groups` workgroups on `buffers`, in the order of their bindings.
    pub(crate) fn launch(&self, groups: [usize; 3], buffers: &[&Buffer]) {
        let Some(first) = buffers.first() else { return };
        // What is computed in one pass is far below 2^32 in every direction.
        let [x, y, z] = groups.map(|count| count as u32);
        let arguments = buffers.iter().fold(KernelArguments::new(), |arguments, buffer| {
            arguments.with_buffer(buffer.handle.clone().binding())
        });
        first.client().launch(Box::new(self.clone()), CubeCount::Static(x, y, z), arguments);
    }
}

/// Declares `buffers`, names and the types of their elements, with the bindings 0, 1 and so on. All of
/// them can be written, because a device refuses memory that is read in one place and written in another
/// by the same kernel, and buffers are parts of larger ones.
pub(crate) fn bindings(buffers: &[(&str, &str)]) -> String {
    let declare = |(index, (name, kind)): (usize, &(&str, &str))| {
        format!("@group(0) @binding({index}) var<storage, read_write> {name}: array<{kind}>;\n")
    };
    buffers.iter().enumerate().map(declare).collect()
}

/// The value of a constant in a shader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Constant {
    Unsigned(usize),
    Signed(i32),
    Float(f32),
    Flag(bool),
}

impl fmt::Display for Constant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(formatter, "u32 = {value}u"),
            Self::Signed(value) => write!(formatter, "i32 = {value}"),
            Self::Float(value) => write!(formatter, "f32 = {value:e}f"),
            Self::Flag(value) => write!(formatter, "bool = {value}"),
        }
    }
}

impl KernelMetadata for Kernel {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.text.clone())
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Kernel {
    /// Only the settings are read of a kernel that brings its own source.
    fn define(&self) -> KernelDefinition {
        let threads = CubeDim::new_1d(self.threads).0;
        // In the other mode every loop counts its rounds, and none is unrolled.
        let settings = KernelSettings::new(threads, ExecutionMode::Unchecked, AddressType::U32);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource {
            source: self.text.source.to_string(),
            entrypoint_name: "main".to_owned(),
            lang: "wgsl",
        })
    }
}
