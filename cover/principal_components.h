// Principal components of feature vectors, and the first three as a colour: how a person looks at 32 channels at once.
#pragma once

#include <cstdint>
#include <vector>

namespace cover {

struct PrincipalComponents {
    std::int64_t channels = 0;
    std::vector<double> mean;      // (channels)
    std::vector<double> axes;      // (k, channels), each of unit length, orthogonal, largest variance first
    std::vector<double> variance;  // (k) along each axis, of the population
    double total_variance = 0;     // over all channels

    std::int64_t count() const { return static_cast<std::int64_t>(variance.size()); }
    // variance[k] / total_variance; 0 where nothing varies.
    double share(std::int64_t component) const;
    // Coordinate of one feature vector (channels) along an axis.
    double project(const float* feature, std::int64_t component) const;
};

// Sums in float64 in the order of the calls: the same rows give the same bits, however many threads computed them.
class ComponentAnalysis {
public:
    explicit ComponentAnalysis(std::int64_t channels);

    // rows (count, channels). A row that holds a value that is not finite is left out.
    void add(const float* rows, std::int64_t count);
    std::int64_t rows() const { return rows_; }

    // The first `components` axes, at most `channels`. Of either direction of an axis the one whose entry of largest
    // magnitude (the first of equals) is positive. Without rows everything is zero, the axes the first unit vectors.
    PrincipalComponents result(std::int64_t components = 3) const;

private:
    std::int64_t channels_, rows_ = 0;
    std::vector<double> origin_;          // the first row: sums are taken about it
    std::vector<double> sum_, products_;  // (channels), (channels, channels) upper triangle
};

// Each of the first three components over +-`deviations` of its own standard deviation as red, green and blue; what
// lies further out is clamped. rows (count, channels) -> rgb (count, 3). A component that hardly varies (less than
// 1e-10 of the total) or does not exist is mid gray, a row that is not finite black.
void component_colours(const PrincipalComponents& components, const float* rows, std::int64_t count, unsigned char* rgb,
                       double deviations = 2);

// Eigenvalues (n), largest first, and unit eigenvectors, one per row (n, n), of the symmetric matrix (n, n), by cyclic
// Jacobi rotations. The lower triangle is not read.
void symmetric_eigen(std::int64_t n, const std::vector<double>& matrix, std::vector<double>& values,
                     std::vector<double>& vectors);

}  // namespace cover
