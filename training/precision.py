"""What a device computes with."""

import torch


def has_bfloat16(device: str = "auto") -> bool:
    """Whether a device computes with bfloat16 itself; emulated, as on older ones, it is slower than 32 bits.

    Of CPUs only x86's AVX512-BF16 is known here.

    Args:
        device: cpu; all else means the CUDA GPU where there is one.
    """
    if torch.cuda.is_available() and device != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch.backends.cpu.get_cpu_capability() does not tell, and this name is not promised.
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
