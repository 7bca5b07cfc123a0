// Undoes the filters of a stored chunk.
#pragma once

#include <string>
#include <vector>

#include "data/h5.h"

namespace cover {

// stored: the chunk's bytes in the file. Returns chunk_bytes bytes. where: "file: dataset /images" for the sentence of
// Error(data): a checksum that does not match, a damaged deflate stream, another size than chunk_bytes.
std::vector<unsigned char> undo_filters(std::vector<unsigned char> stored, const H5Dataset& dataset,
                                        std::uint32_t filter_mask, std::int64_t chunk_bytes, const std::string& where);

// Fletcher's checksum over big-endian 16-bit words, as HDF5 stores it.
std::uint32_t fletcher32(const unsigned char* data, std::int64_t bytes);

}  // namespace cover
