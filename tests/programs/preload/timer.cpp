// Preloaded into a program: from its first matmul on, SIGALRM arrives every 500 microseconds, and its handler does
// nothing but count. Code that oneDNN generates keeps data below the stack pointer, where the kernel writes the frame
// of a handler. At the end the file $SIGNAL_COUNTS tells how many handlers ran, and how many of them in a matmul.
#include <dlfcn.h>
#include <dnnl.h>
#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<int> g_handled, g_in_matmul;
// No allocation in a handler: "initial-exec" keeps it where the thread begins.
thread_local bool t_in_matmul __attribute__((tls_model("initial-exec"))) = false;

void count(int) {
    g_handled++;
    if (t_in_matmul) g_in_matmul++;
}

void start_timer() {
    struct sigaction action {};
    action.sa_handler = count;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, nullptr);
    const itimerval every{{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &every, nullptr);
}

struct AtTheEnd {
    ~AtTheEnd() {
        const char* path = std::getenv("SIGNAL_COUNTS");
        std::FILE* file = path && g_handled > 0 ? std::fopen(path, "w") : nullptr;
        if (!file) return;
        std::fprintf(file, "%d %d\n", g_handled.load(), g_in_matmul.load());
        std::fclose(file);
    }
} at_the_end;

}  // namespace

extern "C" dnnl_status_t dnnl_sgemm(char trans_a, char trans_b, dnnl_dim_t M, dnnl_dim_t N, dnnl_dim_t K, float alpha,
                                    const float* A, dnnl_dim_t lda, const float* B, dnnl_dim_t ldb, float beta,
                                    float* C, dnnl_dim_t ldc) {
    static const auto real = reinterpret_cast<decltype(&dnnl_sgemm)>(dlsym(RTLD_NEXT, "dnnl_sgemm"));
    [[maybe_unused]] static const bool started = (start_timer(), true);
    t_in_matmul = true;
    const dnnl_status_t status = real(trans_a, trans_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
    t_in_matmul = false;
    return status;
}
