// Convolutions by cuDNN: plans that give the same bits every time, the fastest of up to ten kept for each shape.
#pragma once

#include <map>
#include <memory>

#include "kernels/vendor/cudnn_graph.h"

namespace cover::vendor {

class Cudnn {
public:
    // With the properties of a device (cuDNN's JSON, from 9.8 on) plans are found for it without its being there; run()
    // then fails.
    explicit Cudnn(const std::string& device_properties = "");

    std::string name() const;  // "cuDNN 9.19.0, /usr/lib/.../libcudnn.so.9"
    // See Interface. All throw Failure.
    std::int64_t workspace(const Convolution& pass, Element& weight);
    void run(const Convolution& pass, const Buffers& buffers);
    std::string describe(const Convolution& pass) const;

private:
    // A plan refers to its configuration, and that to the graph: all of them stay.
    struct Graph {
        ConvolutionOperation operation;
        Descriptor graph;
    };
    struct Plan {
        Descriptor configuration, descriptor;
        std::int64_t workspace = 0;
        std::string engine;  // "engine 57"
        double seconds = 0;
    };
    struct Plans {
        Element weight = Element::float32;
        std::unique_ptr<Graph> graph;
        std::vector<Plan> candidates;  // after the first run only the one that was chosen
        std::int64_t workspace = 0;    // the largest of the candidates'
        std::size_t tried = 0;
        bool chosen = false;
        std::string refusal;  // why there is none
    };

    cudnnHandle_t handle();
    // Says to what a descriptor belongs: to the device's properties where they are given, else to the handle.
    void set_device(Descriptor& descriptor, cudnnBackendAttributeName_t handle_attribute,
                    cudnnBackendAttributeName_t properties_attribute);
    Plans& plans_of(const Convolution& pass);
    void find_plans(Plans& plans, const Convolution& pass, Element weight);
    void add_plans(Plans& plans, const Convolution& pass, cudnnBackendHeurMode_t mode, std::string& last_error);
    void execute(const Plan& plan, const Buffers& buffers);
    void choose(Plans& plans, const Buffers& buffers);

    SharedLibrary library_;
    CudnnFunctions cudnn_;
    cudnnHandle_t handle_ = nullptr;
    std::string handle_refusal_;
    std::unique_ptr<Descriptor> properties_;
    std::map<Convolution, Plans> plans_;
};

}  // namespace cover::vendor
