"""The engine: defines, quantises, compiles and runs language models on this device with Apache TVM."""
