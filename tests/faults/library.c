/* A stand-in for one of CUDA's libraries; macros choose what it is and how it fails. */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef NAMES /* names that the program opens while it runs, as strings between NULs */
__attribute__((used)) const char names[] = "\0" NAMES;
#endif

#ifdef FATBIN /* GPU code, or rather its table of contents */
__asm__(".section .nv_fatbin,\"a\"\n.incbin \"" FATBIN "\"\n.previous");
#endif

#ifdef DIES
__attribute__((constructor)) static void die(void) { raise(DIES); }
#endif

#ifdef HANGS
__attribute__((constructor)) static void hang(void) { for (;;) sleep(1); }
#endif

#ifdef VERSION /* of cuDNN: one part alone tells it, */
size_t cudnnGetVersion(void) { return VERSION; }
#endif

#ifdef CHECK /* and each compares its own with that, by a function of a name of its own */
size_t cudnnGetVersion(void);
int CHECK(void) { return cudnnGetVersion() == BUILT ? 0 : 1002; }
#endif

#ifdef CUBLAS /* what the lazy loader of ctranslate2 does at the first use of cuBLAS */
int cublasCreate_v2(void **handle) {
    void *library = dlopen(CUBLAS, RTLD_NOW);
    if (!library) {
        fprintf(stderr, "Library %s is not found or cannot be loaded\n", CUBLAS);
        abort();
    }
    return ((int (*)(void **))dlsym(library, "cublasCreate_v2"))(handle);
}
#elif defined(IS_CUBLAS)
int cublasCreate_v2(void **handle) { (void)handle; return 1; /* not initialized: no GPU */ }
#endif

#ifdef WHOLE /* what ctranslate2 itself looks for as well: the version, 12.8.4 */
int cublasGetProperty(int kind, int *value) { *value = kind == 0 ? 12 : kind == 1 ? 8 : 4; return 0; }
#endif

#ifdef DRIVER
static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}
/* The card that CUDA_VISIBLE_DEVICES names alone, by its number; -1: it names none. */
static int alone(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return visible && *visible >= '0' && *visible <= '9' ? atoi(visible) : -1;
}
static int wanted(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return visible && (!*visible || *visible == '-') ? 0 : alone() < 0 ? setting("FAKE_GPUS", 1) : 1;
}
/* A value of the GPU: FAKE_X1 for the second, else FAKE_X. */
static int of(const char *name, int device, int otherwise) {
    char own[64];
    snprintf(own, sizeof own, "%s%d", name, device);
    return setting(own, setting(name, otherwise));
}
int cuInit(unsigned flags) {
    (void)flags;
    if (getenv("FAKE_DIES")) raise(setting("FAKE_DIES", SIGABRT));
    if (getenv("FAKE_HANGS")) pause();
    return wanted() ? setting("FAKE_INIT", 0) : 100;
}
int cuDriverGetVersion(int *version) { *version = setting("FAKE_DRIVER", 12080); return 0; }
int cuDeviceGetCount(int *count) { *count = wanted(); return 0; }
int cuDeviceGet(int *device, int index) { *device = alone() < 0 ? index : alone(); return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    (void)device;
    snprintf(name, size, "%s", getenv("FAKE_NAME") ? getenv("FAKE_NAME") : "NVIDIA A40");
    return 0;
}
int cuDeviceTotalMem_v2(size_t *size, int device) { (void)device; *size = (size_t)46080 << 20; return 0; }
int cuDeviceGetUuid(void *uuid, int device) { memset(uuid, 16 + device, 16); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = of("FAKE_CAPABILITY", device, 86);
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10
           : attribute == 20 ? of("FAKE_MODE", device, 0) : 1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = 0; return of("FAKE_CONTEXT", device, 0); }
int cuCtxSetCurrent(void *context) { (void)context; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    *total = (size_t)46080 << 20;
    *free = (size_t)setting("FAKE_FREE", 45000) << 20;
    return 0;
}
#endif
