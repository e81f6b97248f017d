//! WGSL kernels on the queue and in the memory of burn's wgpu backend.
//!
//! burn's backend extension gives the buffer behind a tensor; kernels are launched by the same
//! client that burn launches its own with.

use std::{fmt, sync::Arc};

use burn::{
    backend::{
        Backend, backend_extension,
        tensor::IntTensor,
        wgpu::{CubeBackend, CubeDim},
    },
    tensor::{Device, Int, Tensor, TensorData},
};
use cubecl::{
    CubeKernel, PrecompiledSource,
    client::Client,
    ir::{UIntKind, metadata::Info},
    prelude::{
        AddressType, CubeCount, ElemType, ExecutionMode, KernelDefinition, KernelId,
        KernelMetadata, KernelSettings, Scope,
    },
    server::{Handle, KernelArguments},
};

/// What reaches the memory behind a tensor.
#[backend_extension(Cube)]
pub(super) trait Memory: Backend {
    /// The buffer of a contiguous tensor, and the client of its device.
    fn memory(tensor: IntTensor<Self>) -> Buffer;
}

impl Memory for CubeBackend {
    fn memory(tensor: IntTensor<Self>) -> Buffer {
        Buffer { client: tensor.client, handle: tensor.handle }
    }
}

/// Memory on a device.
#[derive(Clone)]
pub(super) struct Buffer {
    client: Client,
    handle: Handle,
}

impl Buffer {
    /// Copies `values` to `device`.
    pub(super) fn upload(values: Vec<i32>, device: &Device) -> Self {
        let length = values.len();
        let tensor = Tensor::<1, Int>::from_data(TensorData::new(values, [length]), device);
        <burn::backend::Dispatch as Memory>::memory(tensor.into_dispatch())
    }

    /// Memory beside this one for so many values, which hold anything.
    pub(super) fn beside(&self, values: usize) -> Self {
        let handle = self.client.empty(values * size_of::<i32>());
        Self { client: self.client.clone(), handle }
    }

    /// The values, once every kernel before has run. `Err` says why the device failed.
    pub(super) fn read(self) -> Result<Vec<i32>, String> {
        let bytes = self.client.read_one(self.handle).map_err(|error| error.to_string())?;
        let (values, _) = bytes.as_chunks::<4>();
        Ok(values.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Buffer").field("bytes", &self.handle.size()).finish()
    }
}

/// A compute shader with its constants filled in.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    source: Arc<str>,
    threads: u32,
}

impl Kernel {
    /// `body` behind `constants` and the functions that all kernels share.
    pub(super) fn new(body: &str, threads: u32, constants: &[(&str, Constant)]) -> Self {
        let mut source = format!("const THREADS: u32 = {threads}u;\n");
        for (name, value) in constants {
            source.push_str(&format!("const {name}: {value};\n"));
        }
        source.push_str(include_str!("fixed.wgsl"));
        source.push_str(body);
        Self { source: source.into(), threads }
    }

    /// Queues the kernel in `groups` workgroups on `buffers`, in the order of their bindings.
    pub(super) fn launch(&self, groups: [usize; 2], buffers: &[&Buffer]) {
        let Some(first) = buffers.first() else { return };
        // A batch has at most `BATCH_TOKENS_MAX` rows, and rows are at most `CONFIG_DIMENSION_MAX`.
        let count = CubeCount::Static(groups[0] as u32, groups[1] as u32, 1);
        let arguments = buffers.iter().fold(KernelArguments::new(), |arguments, buffer| {
            arguments.with_buffer(buffer.handle.clone().binding())
        });
        first.client.launch(Box::new(self.clone()), count, arguments);
    }
}

/// The value of a constant in a shader.
#[derive(Clone, Copy, Debug)]
pub(super) enum Constant {
    Unsigned(usize),
    Signed(i32),
}

impl fmt::Display for Constant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(formatter, "u32 = {value}u"),
            Self::Signed(value) => write!(formatter, "i32 = {value}"),
        }
    }
}

impl KernelMetadata for Kernel {
    fn id(&self) -> KernelId {
        // Compiled kernels are kept by their id, which therefore has to hold all of the text.
        KernelId::new::<Self>().info(self.source.clone())
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Kernel {
    /// Only the settings are read of a kernel that brings its own source.
    fn define(&self) -> KernelDefinition {
        let threads = CubeDim::new_1d(self.threads).0;
        let settings = KernelSettings::new(threads, ExecutionMode::Checked, AddressType::U32);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource {
            source: self.source.to_string(),
            entrypoint_name: "main".to_owned(),
            lang: "wgsl",
        })
    }
}
