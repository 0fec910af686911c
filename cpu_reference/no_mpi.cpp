// Compiled instead of mpi.cpp if MPI is not installed.
#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/error.h"

namespace kiln {

std::unique_ptr<Communicator> make_mpi_communicator() {
    throw Error(
        "this program was built without MPI; install Open MPI (Debian: libopenmpi-dev and openmpi-bin) and build it "
        "again");
}

bool built_with_mpi() {
    return false;
}

}  // namespace kiln
