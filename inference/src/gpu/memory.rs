//! Buffers in a device's memory.

use std::fmt;

use burn::{
    backend::{
        Backend, backend_extension,
        tensor::{FloatTensor, IntTensor},
        wgpu::CubeBackend,
    },
    tensor::{Device, Int, Tensor, TensorData},
};
use cubecl::{bytes::Bytes, client::Client, server::Handle};

/// What reaches the client behind a tensor.
#[backend_extension(Cube)]
trait Reach: Backend {
    /// The client of the tensor's device.
    fn client(tensor: IntTensor<Self>) -> Gpu;

    /// The memory of a contiguous tensor.
    fn floats(tensor: FloatTensor<Self>) -> Buffer;
}

impl Reach for CubeBackend {
    fn client(tensor: IntTensor<Self>) -> Gpu {
        Gpu { client: tensor.client }
    }

    fn floats(tensor: FloatTensor<Self>) -> Buffer {
        debug_assert!(tensor.is_contiguous(), "kernels read rows one after the other");
        Buffer { gpu: Gpu { client: tensor.client }, handle: tensor.handle }
    }
}

/// A device of wgpu's.
#[derive(Clone)]
pub(crate) struct Gpu {
    client: Client,
}

impl Gpu {
    /// The queue and the memory of `device`, which is one of wgpu's.
    pub(crate) fn open(device: &Device) -> Self {
        let tensor = Tensor::<1, Int>::from_data(TensorData::new(vec![0_i32], [1]), device);
        <burn::backend::Dispatch as Reach>::client(tensor.into_dispatch())
    }

    /// The memory of a contiguous tensor on one of wgpu's devices.
    pub(crate) fn floats(tensor: Tensor<2>) -> Buffer {
        <burn::backend::Dispatch as Reach>::floats(tensor.into_dispatch())
    }

    /// Copies `words` to the device.
    pub(crate) fn upload<T: Word>(&self, words: &[T]) -> Buffer {
        self.upload_bytes(words.iter().flat_map(|word| word.to_bytes()).collect())
    }

    /// Copies `bytes`, whole words, to the device.
    pub(crate) fn upload_bytes(&self, bytes: Vec<u8>) -> Buffer {
        let handle = self.client.create(Bytes::from_bytes_vec(bytes));
        Buffer { gpu: self.clone(), handle }
    }

    /// Memory for so many words, which hold anything.
    pub(crate) fn empty(&self, words: usize) -> Buffer {
        let handle = self.client.empty(words * size_of::<u32>());
        Buffer { gpu: self.clone(), handle }
    }

    /// Runs `task`, whose buffers last as long as the model: they take what they need and no more, where
    /// others are parts of larger ones that are used again and again.
    pub(crate) fn lasting<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        self.client.memory_persistent_allocation((), |()| task())
    }

    /// What the device calls itself.
    pub(crate) fn name(&self) -> String {
        self.client.properties().identity.name.clone()
    }

    /// Bytes of the largest buffer that a kernel can read on this device.
    pub(crate) fn largest_buffer(&self) -> u64 {
        self.client.properties().memory.max_page_size
    }

    /// Buffers that one kernel can read on this device.
    pub(crate) fn buffers_max(&self) -> usize {
        self.client.properties().hardware.max_bindings as usize
    }

    /// Bytes of memory that the threads of a workgroup can share on this device.
    pub(crate) fn shared_memory(&self) -> usize {
        self.client.properties().hardware.max_shared_memory_size
    }

    /// Lets the device begin with what is queued. Without it, it begins when some dozens of kernels are.
    /// `Err` says why the device failed.
    pub(crate) fn begin(&self) -> Result<(), String> {
        self.client.flush().map_err(|error| error.to_string())
    }

    /// Waits until everything queued has run. `Err` says why the device failed.
    pub(crate) fn wait(&self) -> Result<(), String> {
        let done = self.client.sync();
        cubecl::future::block_on(done).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gpu").field("largest_buffer", &self.largest_buffer()).finish()
    }
}

/// What buffers are made of.
pub(crate) trait Word: Copy {
    fn to_bytes(self) -> [u8; 4];
}

impl Word for u32 {
    fn to_bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

impl Word for i32 {
    fn to_bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

impl Word for f32 {
    fn to_bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

/// Memory on a device.
#[derive(Clone)]
pub(crate) struct Buffer {
    pub(super) gpu: Gpu,
    pub(super) handle: Handle,
}

impl Buffer {
    pub(super) fn client(&self) -> &Client {
        &self.gpu.client
    }

    /// Memory beside this one for so many words, which hold anything.
    pub(crate) fn beside(&self, words: usize) -> Self {
        self.gpu.empty(words)
    }

    /// The first `count` words, once every kernel before has run. `Err` says why the device failed.
    pub(crate) fn read<T>(&self, count: usize, word: fn([u8; 4]) -> T) -> Result<Vec<T>, String> {
        let bytes = self.client().read_one(self.handle.clone());
        let bytes = bytes.map_err(|error| error.to_string())?;
        // A buffer may be a little larger than what was asked for.
        let words = bytes.as_chunks::<4>().0;
        match words.get(..count) {
            Some(words) => Ok(words.iter().map(|bytes| word(*bytes)).collect()),
            None => Err(format!("it gave {} values, expected {count}", words.len())),
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Buffer").field("bytes", &self.handle.size()).finish()
    }
}
