#include "cuda/device/gpu_peaks.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>

namespace kiln {

namespace {

// name, multiprocessors, float32, tf32, bfloat16, float16, float8, memory
constexpr GpuPeaks kPeaks[] = {
    // Turing: float16 only. GeForce RTX 20 accumulates in float32 at half rate; GTX 16 has no tensor cores.
    {"Tesla T4", 40, 8.1, 0, 0, 65, 0, 16},
    {"GeForce GTX 1650", 14, 3, 0, 0, 0, 0, 4},
    {"GeForce GTX 1650 SUPER", 20, 4.4, 0, 0, 0, 0, 4},
    {"GeForce GTX 1660", 22, 5, 0, 0, 0, 0, 6},
    {"GeForce GTX 1660 SUPER", 22, 5, 0, 0, 0, 0, 6},
    {"GeForce GTX 1660 Ti", 24, 5.4, 0, 0, 0, 0, 6},
    {"GeForce RTX 2060", 30, 6.5, 0, 0, 25.8, 0, 6},
    {"GeForce RTX 2060 SUPER", 34, 7.2, 0, 0, 28.7, 0, 8},
    {"GeForce RTX 2070", 36, 7.5, 0, 0, 29.9, 0, 8},
    {"GeForce RTX 2070 SUPER", 40, 9.1, 0, 0, 36.3, 0, 8},
    {"GeForce RTX 2080", 46, 10.1, 0, 0, 40.3, 0, 8},
    {"GeForce RTX 2080 SUPER", 48, 11.2, 0, 0, 44.6, 0, 8},
    {"GeForce RTX 2080 Ti", 68, 13.4, 0, 0, 53.8, 0, 11},
    {"TITAN RTX", 72, 16.3, 0, 0, 130.5, 0, 24},
    {"Quadro RTX 4000", 36, 7.1, 0, 0, 57, 0, 8},
    {"Quadro RTX 5000", 48, 11.2, 0, 0, 89.2, 0, 16},
    {"Quadro RTX 6000", 72, 16.3, 0, 0, 130.5, 0, 24},
    {"Quadro RTX 8000", 72, 16.3, 0, 0, 130.5, 0, 48},
    // Ampere. An A800 differs from an A100 only in NVLink and float64.
    {"A100 SXM4", 108, 19.5, 156, 312, 312, 0, 40},
    {"A100 PCIe", 108, 19.5, 156, 312, 312, 0, 40},
    {"A800 SXM4", 108, 19.5, 156, 312, 312, 0, 40},
    {"A800 PCIe", 108, 19.5, 156, 312, 312, 0, 40},
    {"A800 Active", 108, 19.5, 156, 312, 312, 0, 40},
    {"A30", 56, 10.3, 82.5, 165, 165, 0, 24},
    {"A2", 10, 4.5, 9, 18, 18, 0, 16},
    {"A10", 72, 31.2, 62.5, 125, 125, 0, 24},
    {"A10G", 80, 35, 35, 70, 70, 0, 24},
    {"A16", 10, 4.5, 9, 17.9, 17.9, 0, 16},
    {"A40", 84, 37.4, 74.8, 149.7, 149.7, 0, 48},
    {"RTX A400", 6, 2.7, 5.4, 10.8, 10.8, 0, 4},
    {"RTX A1000", 18, 6.7, 13.4, 26.9, 26.9, 0, 8},
    {"RTX A2000", 26, 8, 16, 31.9, 31.9, 0, 6},
    {"RTX A4000", 48, 19.2, 38.4, 76.7, 76.7, 0, 16},
    {"RTX A4500", 56, 23.7, 47.3, 94.6, 94.6, 0, 20},
    {"RTX A5000", 64, 27.8, 55.5, 111.1, 111.1, 0, 24},
    {"RTX A5500", 80, 34.1, 68.2, 136.4, 136.4, 0, 24},
    {"RTX A6000", 84, 38.7, 77.4, 154.8, 154.8, 0, 48},
    // GeForce RTX 30. All GeForce have half the rate with float32 accumulation. One name may be several chips.
    {"GeForce RTX 3050", 18, 6.8, 6.8, 13.6, 13.6, 0, 6},
    {"GeForce RTX 3050", 20, 9.1, 9.1, 18.2, 18.2, 0, 8},
    {"GeForce RTX 3060", 28, 12.7, 12.7, 25.5, 25.5, 0, 12},
    {"GeForce RTX 3060 Ti", 38, 16.2, 16.2, 32.4, 32.4, 0, 8},
    {"GeForce RTX 3070", 46, 20.3, 20.3, 40.6, 40.6, 0, 8},
    {"GeForce RTX 3070 Ti", 48, 21.8, 21.8, 43.5, 43.5, 0, 8},
    {"GeForce RTX 3080", 68, 29.8, 29.8, 59.5, 59.5, 0, 10},
    {"GeForce RTX 3080", 70, 30.6, 30.6, 61.3, 61.3, 0, 12},
    {"GeForce RTX 3080 Ti", 80, 34.1, 34.1, 68.2, 68.2, 0, 12},
    {"GeForce RTX 3090", 82, 35.6, 35.6, 71.2, 71.2, 0, 24},
    {"GeForce RTX 3090 Ti", 84, 40, 40, 80, 80, 0, 24},
    // Jetson AGX Orin, 32 GB and 64 GB, and AGX Thor. The clocks of Orin NX and Nano do not follow from name and size.
    {"Orin", 14, 3.3, 13.3, 26.7, 26.7, 0, 32},
    {"Orin", 16, 5.3, 21.3, 42.6, 42.6, 0, 64},
    {"Thor", 20, 8.1, 129.3, 258.5, 258.5, 517, 128},
    // Ada.
    {"L4", 58, 30.3, 60, 121, 121, 242, 24},
    {"L40", 142, 90.5, 90.5, 181, 181, 362, 48},
    {"L40S", 142, 91.6, 183, 362, 362, 733, 48},
    {"RTX 2000 Ada Generation", 22, 12, 24, 48, 48, 96, 16},
    {"RTX 4000 SFF Ada Generation", 48, 19.2, 38.4, 76.7, 76.7, 153.4, 20},
    {"RTX 4000 Ada Generation", 48, 26.7, 53.5, 106.9, 106.9, 213.8, 20},
    {"RTX 4500 Ada Generation", 60, 39.6, 79.2, 158.5, 158.5, 317, 24},
    {"RTX 5000 Ada Generation", 100, 65.3, 130.6, 261.1, 261.1, 522.2, 32},
    {"RTX 5880 Ada Generation", 110, 69.3, 138.6, 277.1, 277.1, 554.2, 48},
    {"RTX 6000 Ada Generation", 142, 91.1, 182.1, 364.2, 364.2, 728.5, 48},
    {"GeForce RTX 4060", 24, 15.1, 15.1, 30.2, 30.2, 60.4, 8},
    {"GeForce RTX 4060 Ti", 34, 22.1, 22.1, 44.1, 44.1, 88.2, 8},
    {"GeForce RTX 4070", 46, 29.1, 29.1, 58.3, 58.3, 116.6, 12},
    {"GeForce RTX 4070 SUPER", 56, 35.5, 35.5, 71, 71, 141.9, 12},
    {"GeForce RTX 4070 Ti", 60, 40.1, 40.1, 80.2, 80.2, 160.4, 12},
    {"GeForce RTX 4070 Ti SUPER", 66, 44.1, 44.1, 88.2, 88.2, 176.4, 16},
    {"GeForce RTX 4080", 76, 48.7, 48.7, 97.5, 97.5, 195, 16},
    {"GeForce RTX 4080 SUPER", 80, 52.2, 52.2, 104.4, 104.4, 208.9, 16},
    {"GeForce RTX 4090 D", 114, 73.5, 73.5, 147.1, 147.1, 294.2, 24},
    {"GeForce RTX 4090", 128, 82.6, 82.6, 165.2, 165.2, 330.3, 24},
    // Hopper. An H800 differs from an H100 only in NVLink and float64.
    {"H100 HBM3", 132, 66.9, 494.7, 989.4, 989.4, 1979, 80},
    {"H100 PCIe", 114, 51.2, 378, 756, 756, 1513, 80},
    {"H100 NVL", 132, 60.3, 417.5, 835.5, 835.5, 1671, 94},
    {"H800", 132, 66.9, 494.7, 989.4, 989.4, 1979, 80},
    {"H800 PCIe", 114, 51.2, 378, 756, 756, 1513, 80},
    {"H20", 78, 44, 74, 148, 148, 296, 96},
    {"H20 3e", 78, 44, 74, 148, 148, 296, 141},
    {"H200", 132, 66.9, 494.7, 989.4, 989.4, 1979, 141},
    {"H200 NVL", 132, 60.3, 417.5, 835.5, 835.5, 1671, 141},
    {"GH200", 132, 66.9, 494.7, 989.4, 989.4, 1979, 96},
    {"GH200 HBM3e", 132, 66.9, 494.7, 989.4, 989.4, 1979, 144},
    // Blackwell, data centre.
    {"B200", 148, 75, 1125, 2250, 2250, 4500, 180},
    {"GB200", 152, 80, 1250, 2500, 2500, 5000, 185},
    {"B300 SXM6 AC", 148, 75, 1125, 2250, 2250, 4500, 268},
    {"GB300", 152, 80, 1250, 2500, 2500, 5000, 277},
    // Blackwell, workstation: computed from the FP4 rate of the datasheet, which is 32 float32 rates with sparsity.
    {"RTX PRO 2000 Blackwell", 34, 17, 34.1, 68.1, 68.1, 136.2, 16},
    {"RTX PRO 4000 Blackwell SFF Edition", 70, 24.1, 48.1, 96.2, 96.2, 192.5, 24},
    {"RTX PRO 4000 Blackwell", 70, 36.8, 73.6, 147.2, 147.2, 294.5, 24},
    {"RTX PRO 4500 Blackwell", 82, 52.7, 105.4, 210.9, 210.9, 421.8, 32},
    {"RTX PRO 5000 Blackwell", 110, 64.5, 129, 258, 258, 516, 48},
    {"RTX PRO 6000 Blackwell Workstation Edition", 188, 125.9, 251.9, 503.8, 503.8, 1008, 96},
    {"RTX PRO 6000 Blackwell Max-Q Workstation Edition", 188, 109.7, 219.4, 438.9, 438.9, 877.8, 96},
    {"RTX PRO 6000 Blackwell Server Edition", 188, 117.3, 234.6, 469.1, 469.1, 938.2, 96},
    {"GeForce RTX 5050", 20, 13.2, 13.2, 26.3, 26.3, 52.7, 8},
    {"GeForce RTX 5060", 30, 19.2, 19.2, 38.4, 38.4, 76.7, 8},
    {"GeForce RTX 5060 Ti", 36, 23.7, 23.7, 47.4, 47.4, 94.8, 8},
    {"GeForce RTX 5070", 48, 30.9, 30.9, 61.7, 61.7, 123.5, 12},
    {"GeForce RTX 5070 Ti", 70, 43.9, 43.9, 87.9, 87.9, 175.8, 16},
    {"GeForce RTX 5080", 84, 56.3, 56.3, 112.6, 112.6, 225.1, 16},
    {"GeForce RTX 5090", 170, 104.8, 104.8, 209.6, 209.6, 419.2, 32},
};

bool is_memory_size(std::string_view word) {  // 80GB, 144G
    const size_t digits = std::min(word.find_first_not_of("0123456789"), word.size());
    return digits > 0 && (word.substr(digits) == "g" || word.substr(digits) == "gb");
}

// "NVIDIA A100-SXM4-80GB" -> "a100 sxm4 ": lower-case words without the maker and the size of the memory, which becomes
// *gib.
std::string key(std::string_view name, int* gib = nullptr) {
    std::string result, word;
    const auto add = [&] {
        if (gib && is_memory_size(word)) *gib = std::atoi(word.c_str());
        if (!word.empty() && word != "nvidia" && !is_memory_size(word)) result += word + ' ';
        word.clear();
    };
    for (const char c : name) {
        if (c == ' ' || c == '-') {
            add();
        } else {
            word += char(std::tolower(static_cast<unsigned char>(c)));
        }
    }
    add();
    return result;
}

// Whether whole words of the key `candidate` are those of the key `wanted`, however the latter is divided into words:
// rtx4090. `at_end`: they are the last ones.
bool has_words(std::string_view candidate, std::string_view wanted, bool& at_end) {
    for (size_t begin = 0; begin < candidate.size(); begin = candidate.find(' ', begin) + 1) {
        size_t at = begin;
        bool same = true;
        for (const char c : wanted) {
            if (c == ' ') continue;
            if (candidate[at] == ' ') at++;
            same = same && at < candidate.size() && candidate[at++] == c;
            if (!same) break;
        }
        at_end = at + 1 == candidate.size();
        if (same && candidate[at] == ' ') return true;
    }
    return false;
}

}  // namespace

std::span<const GpuPeaks> known_gpus() {
    return kPeaks;
}

GpuPeaks find_gpu(std::string_view name) {
    int gib = 0;
    const std::string wanted = key(name, &gib);
    GpuPeaks found{};
    if (wanted.empty()) return found;
    for (const GpuPeaks& gpu : kPeaks) {
        bool at_end = false;
        if (!has_words(key(gpu.name), wanted, at_end)) continue;
        if (found.name.empty() || at_end) found = gpu;
        if (at_end) break;  // "RTX 4090" is the GeForce RTX 4090, not the GeForce RTX 4090 D
    }
    if (gib > 0 && gib <= 2 * found.memory_gib) found.memory_gib = gib;  // the 480GB of a GH200 are its CPU's
    return found;
}

double peak_flops(std::string_view name, int multiprocessors, Arithmetic arithmetic) {
    const std::string wanted = key(name);
    for (const GpuPeaks& gpu : kPeaks) {
        if (gpu.multiprocessors != multiprocessors || key(gpu.name) != wanted) continue;
        const float tera[] = {gpu.float32, gpu.tf32, gpu.bfloat16, gpu.float16, gpu.float8};
        return 1e12 * double(tera[size_t(arithmetic)]);
    }
    return 0;
}

}  // namespace kiln
