// A second device on a machine that has none, for tests.
//
// Tensors of this device own bytes of the host, but torch knows them as tensors of PrivateUse1.
// Each operation runs on CPU tensors over the same bytes, so results equal those of the CPU, and
// what an operation writes in place is there without a copy.
//
// The device behaves as an accelerator where a program can get that wrong:
// - It refuses an operation on its tensors together with tensors of the CPU. A CPU tensor of zero
//   dimensions is a number, and it is accepted, except in lists.
// - It counts operations: each is about one launch of a kernel. Views launch nothing.
// - It counts the points at which the host waits for the device, and can refuse them.
// - It has a random stream of its own, and refuses generators of the CPU.
// - It has pinned memory of the host, and autocast with the lists of CUDA.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/set_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <unordered_set>

namespace {

using at::Tensor;
constexpr auto kDevice = c10::DeviceType::PrivateUse1;
const c10::Device kFirst(kDevice, 0);

bool on_device(const Tensor& t) { return t.defined() && t.device().type() == kDevice; }

// ---- counts ----------------------------------------------------------------------------

using Counts = std::map<std::string, int64_t>;
std::mutex counts_lock;
Counts operations, waits;
bool waits_are_errors = false;

void count(const std::string& name) {
  std::lock_guard<std::mutex> guard(counts_lock);
  ++operations[name];
}

void wait_for_device(const std::string& reason) {
  std::lock_guard<std::mutex> guard(counts_lock);
  ++waits[reason];
  TORCH_CHECK(!waits_are_errors, "the host waits for the device: ", reason);
}

std::string lines_of(const Counts& counts) {
  std::lock_guard<std::mutex> guard(counts_lock);
  std::string lines;
  for (const auto& [name, number] : counts) lines += name + "\t" + std::to_string(number) + "\n";
  return lines;
}

// ---- memory ----------------------------------------------------------------------------

void* aligned(size_t bytes) {
  constexpr size_t line = 64;
  void* memory = std::aligned_alloc(line, (std::max<size_t>(bytes, 1) + line - 1) / line * line);
  TORCH_CHECK(memory != nullptr, "no memory for ", bytes, " bytes");
  return memory;
}

struct DeviceMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = aligned(bytes);
    return {memory, memory, &std::free, kFirst};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};
DeviceMemory device_memory;
REGISTER_ALLOCATOR(kDevice, &device_memory)

std::mutex pinned_lock;
std::unordered_set<const void*> pinned;

struct PinnedMemory final : c10::Allocator {
  static void release(void* memory) {
    std::lock_guard<std::mutex> guard(pinned_lock);
    pinned.erase(memory);
    std::free(memory);
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = aligned(bytes);
    std::lock_guard<std::mutex> guard(pinned_lock);
    pinned.insert(memory);
    return {memory, memory, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};
PinnedMemory pinned_memory;

// A tensor of another device over the bytes of `t`. It keeps the storage of `t` alive.
Tensor over_the_same_bytes(const Tensor& t, c10::Device device) {
  auto kept = new c10::Storage(t.storage());
  auto drop = [](void* storage) { delete static_cast<c10::Storage*>(storage); };
  c10::DataPtr bytes(kept->mutable_data(), kept, drop, device);
  c10::Allocator* allocator = c10::GetAllocator(device.type());
  auto storage = c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), kept->nbytes(), std::move(bytes), allocator, true);
  auto key = device.type() == kDevice ? c10::DispatchKey::PrivateUse1 : c10::DispatchKey::CPU;
  auto made = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(std::move(storage)), c10::DispatchKeySet(key), t.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  return made;
}

Tensor on_host(const Tensor& t) { return over_the_same_bytes(t, c10::Device(c10::kCPU)); }
Tensor to_device(const Tensor& t) { return t.defined() ? over_the_same_bytes(t, kFirst) : t; }

// ---- random stream ---------------------------------------------------------------------

struct DeviceGenerator final : at::CPUGeneratorImpl {
  explicit DeviceGenerator(uint64_t seed = c10::default_rng_seed_val) : CPUGeneratorImpl(seed) {
    device_ = kFirst;
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};

at::Generator default_generator = at::make_generator<DeviceGenerator>();

// Inside its scope, the CPU's stream stands where the device's stream stands.
class DeviceStream {
 public:
  explicit DeviceStream(at::Generator own)
      : own_(std::move(own)), cpu_(at::detail::getDefaultCPUGenerator()), state_(cpu_.get_state()) {
    cpu_.set_state(own_.get_state());
  }
  ~DeviceStream() {
    own_.set_state(cpu_.get_state());
    cpu_.set_state(state_);
  }

 private:
  at::Generator own_, cpu_;
  Tensor state_;
};

// ---- what torch asks a device ----------------------------------------------------------

struct Guard final : c10::impl::NoOpDeviceGuardImpl<kDevice> {
  static c10::Stream only() { return c10::Stream(c10::Stream::DEFAULT, kFirst); }
  c10::Device exchangeDevice(c10::Device) const override { return kFirst; }
  c10::Device getDevice() const override { return kFirst; }
  c10::Stream getStream(c10::Device) const noexcept override { return only(); }
  c10::Stream getNewStream(c10::Device, int = 0) const override { return only(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return only(); }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag)
      const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  bool isPinnedPtr(const void* memory) const override {
    std::lock_guard<std::mutex> guard(pinned_lock);
    return pinned.count(memory) > 0;
  }
  at::Device getDeviceFromPtr(void*) const override { return kFirst; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return default_generator;
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<DeviceGenerator>();
  }
};
Hooks hooks;
const bool registered = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

// ---- every operation -------------------------------------------------------------------

// Operations of which a part of the result, such as its shape, is needed on the host.
const std::unordered_set<std::string> waiting = {
    "_linalg_eigh.eigenvalues", "_linalg_svd.U", "_local_scalar_dense", "_unique2", "bincount",
    "equal", "linalg_eig", "linalg_eig.out", "linalg_lstsq", "linalg_lstsq.out", "masked_select",
    "nonzero", "repeat_interleave.Tensor", "unique_consecutive", "unique_dim",
    "unique_dim_consecutive",
};
// Operations whose list of indices may be on the CPU; torch copies these indices to the device.
const std::unordered_set<std::string> indexing = {
    "_index_put_impl_", "_unsafe_index.Tensor", "_unsafe_index_put", "index.Tensor",
    "index.Tensor_out", "index_put", "index_put_",
};

std::string short_name(const c10::FunctionSchema& schema) {
  std::string name = schema.name().substr(schema.name().find("::") + 2);
  return schema.overload_name().empty() ? name : name + "." + schema.overload_name();
}

// The arguments of one operation: device tensors become tensors of the host over the same bytes.
class Arguments {
 public:
  Arguments(const c10::FunctionSchema& schema, const std::string& name) : name_(name) {
    is_indexing_ = indexing.count(name) > 0;
    for (const auto& argument : schema.arguments()) names_.push_back(argument.name());
  }

  void replace(size_t place, c10::IValue& value) {
    place_ = place;
    if (value.isTensor()) {
      value = replaced(value.toTensor(), false);
    } else if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& t : value.toTensorVector()) list.push_back(replaced(t, true));
      value = list;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& t : value.toOptionalTensorVector())
        list.push_back(t.has_value() ? std::optional<Tensor>(replaced(*t, true)) : t);
      value = list;
    } else if (value.isDevice() && value.toDevice().type() == kDevice) {
      value = c10::Device(c10::kCPU);
      device_ = true;
    } else if (value.isGenerator() && value.toGenerator().defined()) {
      generator_ = value.toGenerator();
      value = c10::IValue();
    }
  }

  void check() const {
    TORCH_CHECK(
        !device_ || foreign_.empty(), name_, " mixes tensors of the device with the CPU's:", foreign_);
    TORCH_CHECK(
        !generator_.defined() || generator_.device().type() == kDevice,
        name_, " on the device got a generator of ", generator_.device());
    if (mask_) wait_for_device(name_ + " with a mask");
    if (host_index_) wait_for_device(name_ + " with indices of the CPU");
  }

  at::Generator generator() const {
    return generator_.defined() ? generator_ : default_generator;
  }

  // The device tensor of a result: an argument, a view of an argument, or a new tensor.
  Tensor result(const Tensor& found) {
    if (!found.defined()) return found;
    for (auto& [device, host] : pairs_) {
      if (found.unsafeGetTensorImpl() == host.unsafeGetTensorImpl()) return device;
      if (found.storage().unsafeGetStorageImpl() != host.storage().unsafeGetStorageImpl()) continue;
      if (host.storage().data() != device.storage().data()) continue;  // it was resized
      Tensor view = at::detail::make_tensor<c10::TensorImpl>(
          c10::Storage(device.storage()), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
          found.dtype());
      view.unsafeGetTensorImpl()->set_sizes_and_strides(
          found.sizes(), found.strides(), found.storage_offset());
      only_views_ = true;
      return view;
    }
    makes_something_ = true;
    return to_device(found);
  }

  // Arguments that the operation resized get their new bytes and shape.
  void keep_resized() {
    for (auto& [device, host] : pairs_) {
      auto impl = device.unsafeGetTensorImpl();
      if (host.storage().data() != device.storage().data())
        impl->set_storage_keep_dtype(c10::Storage(to_device(host).storage()));
      if (host.sizes() != device.sizes() || host.strides() != device.strides())
        impl->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
    }
  }

  bool is_view() const { return only_views_ && !makes_something_; }

 private:
  Tensor replaced(const Tensor& t, bool in_list) {
    if (!t.defined()) return t;
    const bool index = is_indexing_ && names_[place_] == "indices";
    if (index && (t.scalar_type() == at::kBool || t.scalar_type() == at::kByte)) mask_ = true;
    if (on_device(t)) {
      device_ = true;
      pairs_.emplace_back(t, on_host(t));
      return pairs_.back().second;
    }
    if (index) {
      host_index_ = true;
    } else if (t.dim() > 0 || in_list) {
      foreign_ += " " + names_[place_] + " " + c10::str(t.sizes());
    }
    return t;
  }

  std::string name_, foreign_;
  std::vector<std::string> names_;
  std::vector<std::pair<Tensor, Tensor>> pairs_;
  at::Generator generator_;
  size_t place_ = 0;
  bool is_indexing_, device_ = false, mask_ = false, host_index_ = false;
  bool only_views_ = false, makes_something_ = false;
};

c10::IValue back_on_device(Arguments& arguments, const c10::IValue& value) {
  if (value.isTensor()) return arguments.result(value.toTensor());
  if (!value.isTensorList()) return value;
  c10::List<Tensor> list;
  for (const Tensor& t : value.toTensorVector()) list.push_back(arguments.result(t));
  return list;
}

void any_operation(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const std::string name = short_name(schema);
  Arguments arguments(schema, name);
  const size_t first = stack->size() - schema.arguments().size();
  for (size_t k = first; k < stack->size(); ++k) arguments.replace(k - first, (*stack)[k]);
  arguments.check();
  if (waiting.count(name)) wait_for_device(name);
  {
    std::optional<DeviceStream> stream;
    if (op.hasTag(at::Tag::nondeterministic_seeded)) stream.emplace(arguments.generator());
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  const size_t results = stack->size() - schema.returns().size();
  for (size_t k = results; k < stack->size(); ++k)
    (*stack)[k] = back_on_device(arguments, (*stack)[k]);
  arguments.keep_resized();
  if (!arguments.is_view()) count(name);
}

// ---- operations that torch asks of each device by name ---------------------------------

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(
      size, &device_memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      size, stride, &device_memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      c10::dtype_or_default(dtype));
}

// The host waits for a copy from or to its own memory unless this memory is pinned and the copy
// is asked not to block.
Tensor copy_from(const Tensor& source, const Tensor& target, bool non_blocking) {
  const bool out = !on_device(target), in = !on_device(source);
  count(out ? "copy to the host" : in ? "copy to the device" : "copy_");
  if (out || in) {
    const bool is_pinned = (out ? target : source).is_pinned();
    const std::string way = out ? "copy to the host" : "copy to the device";
    if (!is_pinned) wait_for_device(way + ", not pinned");
    else if (!non_blocking) wait_for_device(way + ", blocking");
  }
  at::NoGradGuard no_grad;
  Tensor from = in ? source : on_host(source), to = out ? target : on_host(target);
  to.copy_(from.expand(to.sizes()));
  return target;
}

Tensor& set_storage(Tensor& self, at::Storage source, c10::SymInt offset, c10::SymIntArrayRef size,
                    c10::SymIntArrayRef stride) {
  return at::native::set_storage_cpu_(self, std::move(source), offset.expect_int(),
                                      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

Tensor& set_whole_storage(Tensor& self, at::Storage source) {
  const auto numbers = static_cast<int64_t>(source.nbytes() / self.dtype().itemsize());
  return at::native::set_storage_cpu_(self, std::move(source), 0, {numbers}, {});
}

Tensor& set_tensor(Tensor& self, const Tensor& source) {
  return at::native::set_tensor_(self, source);
}

void check_convolution(std::initializer_list<Tensor> tensors) {
  for (const Tensor& t : tensors)
    TORCH_CHECK(!t.defined() || on_device(t), "a convolution mixes devices: ", t.device());
}

Tensor convolution(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                   c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                   c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef more,
                   c10::SymInt groups) {
  const Tensor offset = bias.value_or(Tensor());
  check_convolution({input, weight, offset});
  count("convolution");
  const auto host_offset = offset.defined() ? std::optional<Tensor>(on_host(offset)) : std::nullopt;
  return to_device(at::convolution_symint(on_host(input), on_host(weight), host_offset, stride,
                                          padding, dilation, transposed, more, groups));
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& gradient, const Tensor& input, const Tensor& weight, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed,
    c10::SymIntArrayRef more, c10::SymInt groups, std::array<bool, 3> wanted) {
  check_convolution({gradient, input, weight});
  count("convolution_backward");
  const std::vector<c10::SymInt> size{transposed ? weight.sym_size(1) * groups : weight.sym_size(0)};
  const auto bias_size =
      wanted[2] ? at::OptionalSymIntArrayRef(c10::SymIntArrayRef(size)) : std::nullopt;
  auto [first, second, third] = at::convolution_backward_symint(
      on_host(gradient), on_host(input), on_host(weight), bias_size, stride, padding, dilation,
      transposed, more, groups, wanted);
  return {to_device(first), to_device(second), to_device(third)};
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&any_operation>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("set_.source_Storage", &set_whole_storage);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
}

// ---- autocast, with the lists that torch has for CUDA -----------------------------------

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
#define LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define FULL(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define FULL_DTYPE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  AT_FORALL_LOWER_PRECISION_FP(LOWER)
  AT_FORALL_FP32(FULL)
  AT_FORALL_FP32_SET_OPT_DTYPE(FULL_DTYPE)
  AT_FORALL_PROMOTE(WIDEST)
}

// ---- what the tests ask ------------------------------------------------------------------

TORCH_LIBRARY(second_device, m) {
  m.def("operations() -> str", []() { return lines_of(operations); });
  m.def("waits() -> str", []() { return lines_of(waits); });
  m.def("reset() -> ()", []() {
    std::lock_guard<std::mutex> guard(counts_lock);
    operations.clear();
    waits.clear();
  });
  m.def("count_wait(str reason) -> ()", [](std::string reason) { wait_for_device(reason); });
  m.def("refuse_waits(bool refuse) -> ()", [](bool refuse) { waits_are_errors = refuse; });
  m.def("get_rng_state() -> Tensor", []() { return default_generator.get_state(); });
  m.def("set_rng_state(Tensor state) -> ()", [](const Tensor& state) {
    TORCH_CHECK(state.device().is_cpu(), "the state of a random stream must be on the CPU");
    default_generator.set_state(state);
  });
  m.def("manual_seed(int seed) -> ()", [](int64_t seed) {
    default_generator.set_current_seed(static_cast<uint64_t>(seed));
  });
}
