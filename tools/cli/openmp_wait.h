#pragma once

namespace kiln {

// Makes the threads of OpenMP sleep soon when they wait, unless the user chose how they wait. GNU's library lets them
// spin for 300,000 rounds, 12 ms on a Xeon whose `pause` takes 140 cycles; while another program holds a core, each of
// the some hundred barriers of a step then costs a time slice: 100 steps of a tiny model took 22 s beside a compiler,
// and 0.7 s with this. It reads its settings before main, so the program is started once more in its own process.
// Call first thing in main.
void sleep_when_threads_wait(char** argv);

}  // namespace kiln
