//! Rust bindings, generated from the Solidity interfaces themselves, so that the two cannot drift apart.

#![allow(
    clippy::too_many_arguments,
    reason = "the contracts' functions have the arguments that their standards give them"
)]
#![allow(
    clippy::large_enum_variant,
    reason = "calls and events are decoded one at a time, never kept in numbers"
)]

use alloy::sol;

sol!(
    #[sol(rpc, all_derives)]
    "../contracts/src/interfaces/IRequestEscrow.sol"
);

sol!(
    #[sol(rpc, all_derives)]
    "../contracts/src/interfaces/IOperatorRegistry.sol"
);

sol!(
    #[sol(rpc, all_derives)]
    "../contracts/src/interfaces/IEntryPolicy.sol"
);

sol!(
    #[sol(rpc, all_derives)]
    "../contracts/src/interfaces/IAgentRegistry.sol"
);

sol!(
    #[sol(rpc, all_derives)]
    "../contracts/src/interfaces/IPlatformToken.sol"
);

sol! {
    /// The parts of ERC-20 (with metadata) that Auspex reads and calls.
    #[sol(rpc)]
    #[derive(Debug, Default, PartialEq, Eq)]
    interface IERC20 {
        event Transfer(address indexed from, address indexed to, uint256 value);
        event Approval(address indexed owner, address indexed spender, uint256 value);
        function name() external view returns (string);
        function symbol() external view returns (string);
        function decimals() external view returns (uint8);
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
    }

    /// The parts of ERC-721 that Auspex reads: an agent is a token of the agent registry.
    #[sol(rpc)]
    #[derive(Debug, Default, PartialEq, Eq)]
    interface IERC721 {
        event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);
        function ownerOf(uint256 tokenId) external view returns (address);
        function tokenURI(uint256 tokenId) external view returns (string);
    }
}
