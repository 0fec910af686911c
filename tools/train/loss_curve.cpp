#include "tools/train/loss_curve.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/json_reader.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/checkpoint/names.h"

namespace kiln {

namespace {

// The frame of the plot in a picture of 860 x 480.
constexpr double kWidth = 860, kHeight = 480, kLeft = 70, kRight = 836, kTop = 52, kBottom = 428;
constexpr const char* kTrainColour = "#2563eb";
constexpr const char* kValColour = "#ea580c";

// The text inside an element: no markup, and only characters that XML 1.0 allows.
std::string escaped(const std::string& text) {
    const std::string valid = replace_invalid_utf8(text);
    std::string out;
    uint32_t point = 0;
    for (const char *p = valid.data(), *const end = p + valid.size(); p < end;) {
        const int bytes = decode_utf8(p, end, point);
        if (point == '<' || point == '>' || point == '&') {
            out += point == '<' ? "&lt;" : point == '>' ? "&gt;" : "&amp;";
        } else if (point >= 0x20 && point != 0xFFFE && point != 0xFFFF) {
            out.append(p, size_t(bytes));
        }
        p += bytes;
    }
    return out;
}

// An axis from `low` to `high`, widened to whole ticks of 1, 2 or 5 times a power of ten. `least` is the smallest tick.
struct Axis {
    double low, high, tick;

    Axis(double smallest, double largest, int ticks, bool widen, double least = 0) : low(smallest), high(largest) {
        const double largest_size = std::max(std::abs(low), std::abs(high));
        if (high - low < 1e-9 * std::max(1.0, largest_size)) high = low + std::max(1e-3, largest_size * 0.1);
        const double rough = (high - low) / ticks, power = std::pow(10, std::floor(std::log10(rough)));
        tick = std::max(least, power * (rough / power > 5 ? 10 : rough / power > 2 ? 5 : rough / power > 1 ? 2 : 1));
        if (!widen) return;
        low = std::floor(low / tick) * tick;
        high = std::ceil(high / tick) * tick;
    }
    double place(double value, double from, double to) const {
        return from + (value - low) / (high - low) * (to - from);
    }
    // The multiples of `tick` from low to high. They are counted: a sum may stay the same when a tick is added.
    std::vector<double> ticks() const {
        std::vector<double> values;
        const double first = std::ceil(low / tick - 1e-6);
        const int count = int(std::floor(high / tick + 1e-6) - first);
        for (int i = 0; i <= count; i++) values.push_back((first + i) * tick);
        return values;
    }
};

// At most `limit` points, each the mean of neighbouring points.
std::vector<LossPoint> thinned(const std::vector<LossPoint>& points, size_t limit) {
    if (points.size() <= limit) return points;
    std::vector<LossPoint> out;
    for (size_t i = 0; i < limit; i++) {
        const size_t begin = i * points.size() / limit, end = (i + 1) * points.size() / limit;
        LossPoint mean{0, 0};
        for (size_t j = begin; j < end; j++) {
            mean.step += points[j].step / double(end - begin);
            mean.loss += points[j].loss / double(end - begin);
        }
        out.push_back(mean);
    }
    return out;
}

// Each point is the mean over a fiftieth of the curve on both sides. At the start, where the curve is steep, both sides
// are as short as the left one. At the end only the right one is shorter: the last point is a mean too, not one batch.
std::vector<LossPoint> smoothed(const std::vector<LossPoint>& points) {
    const size_t n = points.size(), reach = n / 50;
    std::vector<LossPoint> out;
    for (size_t i = 0; i < n; i++) {
        const size_t r = std::min(reach, i), begin = i - r, end = std::min(i + r + 1, n);
        double sum = 0;
        for (size_t j = begin; j < end; j++) sum += points[j].loss;
        out.push_back({points[i].step, sum / double(end - begin)});
    }
    return out;
}

void add_line(LossCurve& curve, std::string_view line, const std::string& where) {
    constexpr uint64_t kMaxStep = uint64_t(1) << 53;  // larger whole numbers are not exact as a double
    const auto json = nlohmann::json::parse(line, nullptr, false);
    const bool has_step = json.is_object() && json.contains("step") && json["step"].is_number_unsigned();
    KILN_CHECK(has_step && json["step"] <= kMaxStep, where, "not a line of metrics: ", excerpt(line));
    const auto point = [&](const char* name) -> std::optional<LossPoint> {
        if (!json.contains(name) || !json[name].is_number()) return std::nullopt;
        const double loss = json[name];
        KILN_CHECK(std::abs(loss) <= std::numeric_limits<float>::max(), where, name, " is not a loss: ", loss);
        return LossPoint{json["step"], loss};
    };
    if (const auto train = point("train_loss")) curve.add_train(*train);
    if (const auto val = point("val_loss")) curve.val.push_back(*val);
}

}  // namespace

void LossCurve::add_train(const LossPoint& point) {
    if (train.empty() || losses_in_last == losses_a_point) {
        if (train.size() == kMaxPoints) {
            train = thinned(train, kMaxPoints / 2);
            losses_a_point *= 2;
        }
        train.push_back({0, 0});
        losses_in_last = 0;
    }
    LossPoint& mean = train.back();
    losses_in_last++;
    mean.step += (point.step - mean.step) / double(losses_in_last);
    mean.loss += (point.loss - mean.loss) / double(losses_in_last);
}

LossCurve read_loss_curve(const std::filesystem::path& run) {
    const std::filesystem::path path = run / kMetrics;
    KILN_CHECK(std::filesystem::exists(path), path.string(),
               ": not found; --run takes a run directory, as train_gpt2 -o writes it");
    constexpr size_t kMaxLine = 1 << 16;  // Kiln's have about 300 bytes
    InputFile file(path);
    LossCurve curve;
    size_t line_number = 0;
    std::string block(kMaxLine, '\0');
    for (size_t used = 0, read; (read = file.read(block.data() + used, block.size() - used)) > 0;) {
        const std::string_view text(block.data(), used += read);
        size_t begin = 0;
        for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
            const std::string where = concat(path.string(), ":", ++line_number, ": ");
            add_line(curve, text.substr(begin, end - begin), where);
        }
        KILN_CHECK(begin > 0 || used < kMaxLine, path.string(), ":", line_number + 1, ": a line of more than ",
                   kMaxLine, " bytes: not a line of metrics");
        block.erase(0, begin);
        used -= begin;
        block.resize(kMaxLine);
    }
    return curve;
}

std::string run_title(const std::filesystem::path& run) {
    constexpr size_t kMaxBytes = 80;
    std::filesystem::path path = std::filesystem::absolute(run).lexically_normal();
    if (!path.has_filename()) path = path.parent_path();
    const std::string name = path.filename().string();
    if (name.size() <= kMaxBytes) return name;
    const std::string start = name.substr(0, kMaxBytes);
    return start.substr(0, start.size() - incomplete_utf8_tail(start)) + "...";
}

std::string loss_svg(const LossCurve& curve, const std::string& title) {
    const std::vector<LossPoint> train = thinned(curve.train, 1000), val = thinned(curve.val, 1000);
    double low = INFINITY, high = -INFINITY, first = INFINITY, last = -INFINITY;
    for (const auto* points : {&train, &val}) {
        for (const LossPoint& p : *points) {
            low = std::min(low, p.loss);
            high = std::max(high, p.loss);
            first = std::min(first, p.step);
            last = std::max(last, p.step);
        }
    }
    if (low > high) low = 0, high = 1, first = 0, last = 1;
    const Axis x(first, last, 8, false, 1), y(low, high, 6, true);  // steps are whole

    std::string svg;
    svg += formatted(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" "
        "font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#374151\">\n",
        kWidth, kHeight, kWidth, kHeight);
    svg += formatted("<rect width=\"%g\" height=\"%g\" fill=\"#ffffff\"/>\n", kWidth, kHeight);
    svg +=
        "<text x=\"70\" y=\"30\" font-size=\"16\" font-weight=\"600\" fill=\"#111827\">" + escaped(title) + "</text>\n";
    for (const double value : y.ticks()) {
        const double at = y.place(value, kBottom, kTop);
        svg += formatted("<path d=\"M%g %.1fH%g\" stroke=\"#e5e7eb\"/>", kLeft, at, kRight);
        svg += formatted("<text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", kLeft - 8, at + 4.5, value);
    }
    for (const double value : x.ticks()) {
        const double at = x.place(value, kLeft, kRight);
        svg += formatted("<path d=\"M%.1f %gv5\" stroke=\"#9ca3af\"/>", at, kBottom);
        svg += formatted("<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%.0f</text>\n", at, kBottom + 20, value);
    }
    svg += formatted("<path d=\"M%g %gV%gH%g\" fill=\"none\" stroke=\"#9ca3af\"/>\n", kLeft, kTop, kBottom, kRight);
    svg +=
        formatted("<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">step</text>\n", (kLeft + kRight) / 2, kHeight - 12);
    svg += formatted(
        "<text transform=\"translate(20 %g) rotate(-90)\" text-anchor=\"middle\">loss (nats per token)</text>\n",
        (kTop + kBottom) / 2);

    const auto line = [&](const std::vector<LossPoint>& points, const char* colour, double width, double opacity) {
        if (points.empty()) return;
        svg += formatted(
            "<path fill=\"none\" stroke=\"%s\" stroke-width=\"%g\" stroke-opacity=\"%g\" stroke-linejoin=\"round\" "
            "d=\"",
            colour, width, opacity);
        for (size_t i = 0; i < points.size(); i++) {
            svg += formatted("%c%.1f %.1f", i == 0 ? 'M' : 'L', x.place(points[i].step, kLeft, kRight),
                             y.place(points[i].loss, kBottom, kTop));
        }
        svg += "\"/>\n";
    };
    line(train, kTrainColour, 1, 0.3);
    line(smoothed(train), kTrainColour, 2, 1);
    line(val, kValColour, 2, 1);
    for (const LossPoint& p : val.size() <= 60 ? val : std::vector<LossPoint>{}) {
        svg +=
            formatted("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"><title>step %.0f: %.4f</title></circle>\n",
                      x.place(p.step, kLeft, kRight), y.place(p.loss, kBottom, kTop), kValColour, p.step, p.loss);
    }
    double left = kRight - 20;
    const auto legend = [&](const char* name, const char* colour, const std::vector<LossPoint>& points) {
        if (points.empty()) return;
        left -= 170;
        svg += formatted("<path d=\"M%g %gh22\" stroke=\"%s\" stroke-width=\"3\"/>", left, kTop + 14, colour);
        svg += formatted("<text x=\"%g\" y=\"%g\">%s %.4f</text>\n", left + 30, kTop + 18.5, name, points.back().loss);
    };
    legend("validation", kValColour, curve.val);
    legend("training", kTrainColour, curve.train);
    return svg + "</svg>\n";
}

}  // namespace kiln
