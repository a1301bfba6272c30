// Memory of large arrays, kept for the next one: what a new array gets from the system is first cleared page by page,
// which takes as long as some kernels do.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace latq {

class Memory {
public:
    struct Piece {
        void* at;
        size_t size;
    };

    // ``size`` bytes or more, at the begin of a line of the cache; null if there are none.
    Piece take(size_t size) {
        const size_t whole = (size + GRAIN - 1) / GRAIN * GRAIN;
        {
            const std::lock_guard guard(lock);
            for (size_t i = kept.size(); i-- > 0;)
                if (kept[i].size >= whole && kept[i].size <= 2 * whole) {
                    const Piece found = kept[i];
                    kept.erase(kept.begin() + (std::ptrdiff_t)i), held -= found.size;
                    return found;
                }
        }
        return {std::aligned_alloc(64, whole), whole};
    }

    // The oldest pieces go when too much is kept.
    void give_back(Piece piece) {
        const std::lock_guard guard(lock);
        kept.push_back(piece), held += piece.size;
        while (held > MOST) {
            std::free(kept.front().at), held -= kept.front().size;
            kept.erase(kept.begin());
        }
    }

private:
    static constexpr size_t GRAIN = 1 << 16, MOST = 1 << 26;
    std::mutex lock;
    std::vector<Piece> kept;
    size_t held = 0;
};

}  // namespace latq
