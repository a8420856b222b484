// What torch asks of a CUDA device from C++, answered without one: there is one device, it is current, its stream is the default stream.
#include <Python.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

struct Guard final : public c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Device getDevice() const override { return c10::Device(c10::DeviceType::CUDA, 0); }
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(c10::DeviceType::CUDA, 0));
  }
};

struct Hooks final : public at::CUDAHooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
  bool isBuilt() const override { return true; }
  void init() const override {}
  bool hasCUDA() const override { return true; }
};

using Impl = const c10::impl::DeviceGuardImplInterface;
Impl* guard_before = nullptr;
void* hooks_before = nullptr;

std::atomic<Impl*>& guard_slot() {
  return c10::impl::device_guard_impl_registry[static_cast<size_t>(c10::DeviceType::CUDA)];
}

// The hooks object itself can't be replaced, what its methods do can: the first word of it says where they are.
void** hooks_slot() { return reinterpret_cast<void**>(&const_cast<at::CUDAHooksInterface&>(at::detail::getCUDAHooks())); }

PyObject* install(PyObject*, PyObject*) {
  static const Guard guard;
  static const Hooks hooks;
  if (hooks_before == nullptr) {
    guard_before = guard_slot().exchange(&guard);
    hooks_before = *hooks_slot();
    *hooks_slot() = *reinterpret_cast<void* const*>(&hooks);
  }
  Py_RETURN_NONE;
}

PyObject* uninstall(PyObject*, PyObject*) {
  if (hooks_before != nullptr) {
    guard_slot().store(guard_before);
    *hooks_slot() = hooks_before;
    hooks_before = nullptr;
  }
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"install", install, METH_NOARGS, ""}, {"uninstall", uninstall, METH_NOARGS, ""}, {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "guard", nullptr, -1, methods};

}  // namespace

PyMODINIT_FUNC PyInit_guard() { return PyModule_Create(&module); }
